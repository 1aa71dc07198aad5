// A picture of where the network looks, to be seen by a person.
import { readFile } from 'node:fs/promises';
import { checkText } from '../check.js';
import { loadSharp } from '../data/picture.js';
import { ComFaceError, messageOf } from '../errors.js';
import { checkModel, type Model } from '../model.js';
import { native } from '../native.js';
import { overlay } from './saliency.js';

/** Larger pictures are made smaller first. */
const kMostEdge = 1024;

/**
 * {@link Model.saliency} of a JPEG picture laid over it, as a PNG of the picture's size, at most 1024 pixels on an edge: blue for the least of the
 * picture, by way of green, to red for the most.
 *
 * @param file JPEG file, as for {@link Model.embed}.
 * @returns the bytes of the PNG.
 * @throws ComFaceError as {@link Model.saliency}; DEVICE_UNAVAILABLE where sharp does not work.
 */
export async function saliencyPng(model: Model, file: string): Promise<Uint8Array> {
  checkModel(model);
  checkText('file', file);
  const saliency = await model.saliency(file);
  const bytes = await readFile(file).catch((cause) => {
    throw new ComFaceError('IO', `Cannot read ${file}: ${messageOf(cause)}`, { hint: 'Check the path.', cause });
  });
  const { width, height, rgb } = await native().module.decodeJpeg(bytes);
  const open = await loadSharp();
  const scale = Math.min(1, kMostEdge / Math.max(width, height));
  const size = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  const picture = open(rgb, { raw: { width, height, channels: 3 } });
  const pixels = scale < 1 ? await picture.resize(size.width, size.height, { fit: 'fill' }).raw().toBuffer() : rgb;
  return open(overlay(pixels, size, saliency), { raw: { ...size, channels: 3 } })
    .png()
    .toBuffer();
}
