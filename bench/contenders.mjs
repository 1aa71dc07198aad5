// @ts-check
// Who is timed beside whom in the cases data/*: programs that do a round of the same work each time they are asked, each in a process of its own.
// They take turns, so that a busy minute of the machine is everybody's, and what counts is the time that their processors computed.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const kPairs = 32; // of a batch
export const kShown = 4; // pairs of the first batch whose views views.bin has
const kWarmRounds = 2;

/**
 * @typedef {{ items: number, checked?: string, difference?: number }} Ready What a contender says when it may begin.
 * @typedef {{ cpuMs: number, wallMs: number }} Round
 * @typedef {object} Rival One line of a result.
 * @property {string} name @property {number} [rate] Items for each second of a processor. @property {number} [ratio] Of our rate to its.
 * @property {number} [difference] Mean absolute one of its views from ours. @property {string} [missing] Why it was not timed.
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const median = (/** @type {number[]} */ list) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;

/** Where bench/loader.cc is, built. */
export function loaderProgram() {
  const { status, stdout, stderr } = spawnSync('node', ['native/build.mjs', '--tests', '--cuda', 'off'], { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(`native/build.mjs --tests failed: ${stdout}${stderr}`);
  return `${root}build/tests/loader`;
}

export class Contender {
  /** @type {number[]} */ #times = [];
  /** @type {import('node:child_process').ChildProcessWithoutNullStreams} */ #child;
  /** @type {AsyncIterator<string>} */ #lines;
  #errors = '';
  /** @type {Ready} */ ready = { items: 0 };

  /** @param {string} name @param {string} program @param {readonly string[]} args */
  constructor(name, program, args) {
    this.name = name;
    this.#child = spawn(program, args, { cwd: root, env: { ...process.env, OMP_NUM_THREADS: '1' } });
    this.#child.stderr.on('data', (text) => {
      this.#errors = (this.#errors + text).slice(-5000);
    });
    this.#child.stdin.on('error', () => {}); // it has ended, which the missing answer says
    this.#child.on('error', (error) => {
      this.#errors = error.message;
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @returns {Promise<any>} */
  async #answer() {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(this.#errors.trim().split('\n').at(-1) || 'it ended');
    return JSON.parse(value);
  }
  async begin() {
    this.ready = await this.#answer();
    return this;
  }
  /** @returns {Promise<Round>} */
  async round() {
    this.#child.stdin.write('go\n');
    const round = /** @type {Round} */ (await this.#answer());
    this.#times.push(round.cpuMs);
    return round;
  }
  /** Items for each second of a processor, at the median. */
  get rate() {
    return (1000 * this.ready.items) / median(this.#times.slice(kWarmRounds));
  }
  end() {
    this.#child.kill();
  }
}

/**
 * A case of ours among rivals. Those that cannot begin are named with the reason and left out.
 * @param {Contender} ours @param {readonly Contender[]} rivals @param {(rival: Contender) => void} check Throws for one that does other work.
 * @returns {Promise<{ run: () => Promise<{ overriddenDuration: number }>, rivals: () => Rival[], end: () => void }>}
 */
export async function among(ours, rivals, check) {
  await ours.begin();
  /** @type {Map<string, string>} */
  const missing = new Map();
  for (const rival of rivals) {
    try {
      await rival.begin();
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      const isMissing = /ModuleNotFoundError|ERR_MODULE_NOT_FOUND|Cannot find package|ENOENT/.test(message);
      missing.set(rival.name, `${isMissing ? 'not installed' : 'cannot begin'} (${message})`);
      continue;
    }
    check(rival);
  }
  const there = rivals.filter(({ name }) => !missing.has(name));
  const run = async () => {
    const { cpuMs } = await ours.round();
    for (const rival of there) await rival.round();
    return { overriddenDuration: cpuMs };
  };
  const lineOf = (/** @type {Contender} */ rival) => {
    const why = missing.get(rival.name);
    if (why !== undefined) return { name: rival.name, missing: why };
    const { difference } = rival.ready;
    return { name: rival.name, rate: rival.rate, ratio: ours.rate / rival.rate, ...(difference === undefined ? {} : { difference }) };
  };
  return {
    run,
    rivals: () => rivals.map(lineOf),
    end: () => {
      for (const each of [ours, ...rivals]) each.end();
    },
  };
}
