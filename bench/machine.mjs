// @ts-check
// What a result says of the machine and of this process's memory.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { native } from '../dist/native.js';
import { root } from './contenders.mjs';

/** @param {string[]} args */
const git = (...args) => spawnSync('git', ['-C', root, ...args], { encoding: 'utf8' }).stdout?.trim() || undefined;

export function machine() {
  const { version, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return {
    date: new Date().toISOString(),
    commit: git('rev-parse', 'HEAD'),
    isDirty: Boolean(git('status', '--porcelain')),
    cpu: { model: cpus()[0]?.model.trim(), memoryBytes: totalmem(), ...native().module.cpu },
    versions: { comface: version, node: process.versions.node, v8: process.versions.v8, tinybench: devDependencies.tinybench },
  };
}

export const isaOf = (/** @type {{ bf16: boolean, avx512: boolean, avx2: boolean }} */ cpu) =>
  cpu.bf16 ? 'avx512 bf16' : cpu.avx512 ? 'avx512' : cpu.avx2 ? 'avx2' : 'baseline';

/** Bytes at the highest since the peak was last forgotten; resourceUsage() cannot forget. */
export const peakRss = () => Number(/VmHWM:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;

export const forgetPeak = () => writeFileSync('/proc/self/clear_refs', '5');
