// @ts-check
// Starts a package again and again: for each line on the input so many processes, answered with the time they computed.   node bench/peers/start.mjs comface|sharp|tfjs
import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { programs } from '../cases/start.mjs';
import { root } from '../contenders.mjs';
import { tensorFlowFolder } from './places.mjs';

const kStarts = 1; // of a round
const which = /** @type {keyof typeof programs} */ (process.argv[2]);
const code = `${programs[which]}
const { user, system } = process.cpuUsage();
console.log(JSON.stringify({ cpuMs: (user + system) / 1000 }));`;
const cwd = which === 'tfjs' ? tensorFlowFolder() : root;

function start() {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { cwd, encoding: 'utf8' });
  const reason = stderr?.split('\n').find((line) => /Error/.test(line)) ?? 'it ended';
  if (status !== 0) throw new Error(reason);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '').cpuMs;
}

try {
  start();
} catch (error) {
  // The reason alone: the last line is what the bench tells.
  console.error(/** @type {Error} */ (error).message);
  process.exit(1);
}
console.log(JSON.stringify({ items: kStarts }));
for await (const _ of createInterface({ input: process.stdin })) {
  const begin = performance.now();
  let cpuMs = 0;
  for (let i = 0; i < kStarts; i++) cpuMs += start();
  console.log(JSON.stringify({ cpuMs, wallMs: performance.now() - begin }));
}
