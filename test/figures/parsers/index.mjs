// @ts-check
// The parsers of untrusted files, and what figure F2 feeds them.
import { checkpoint } from './checkpoint.mjs';
import { csv, set, sets, table } from './data.mjs';
import { lock, log } from './log.mjs';
import { manifest } from './manifest.mjs';
import { options, words, yaml } from './options.mjs';
import { safetensors } from './safetensors.mjs';
import { labels, mat, points } from './tasks.mjs';
import { transfer } from './transfer.mjs';
import { allTypes, npy, pickle, stream, torch } from './weights.mjs';

/** @type {Record<string, import('./common.mjs').Parser>} */
export const parsers = {
  safetensors,
  checkpoint,
  manifest,
  set,
  sets,
  table,
  csv,
  mat,
  points,
  labels,
  options,
  yaml,
  words,
  log,
  lock,
  transfer,
  pickle,
  torch,
  stream,
  npy,
  allTypes,
};
