// @ts-check
// Who is timed beside whom: programs that do a round of the same work each time they are asked, each in a process of its own.
// They take turns, so that a busy minute of the machine is everybody's; a ratio is the median over rounds of theirs and ours that followed each other.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const kPairs = 32; // of a batch
export const kShown = 4; // pairs of the first batch whose views views.bin has
const kWarmRounds = 2;
/** Who has used so much time has been heard when it has answered so often: a round of plain JavaScript may take minutes. */
const kHeard = { afterMs: 240_000, rounds: kWarmRounds + 1 };
export const kPython = process.env.PYTHON ?? 'python3';

/**
 * @typedef {object} Ready What a contender says when it may begin.
 * @property {number} items Of one round. @property {string} [checked] @property {number} [difference] @property {number[]} [losses] Of the first step.
 * @property {string} [how] Versions, and what it really runs with. @property {number} [sizeBytes] Buffers of an engine. @property {string} [engine]
 * @property {readonly number[]} [shape] Of a batch of pictures. @property {number} [pairs] Channels of convolutions, in times out. @property {number} [flop] Of a picture.
 * @property {number} [gemm] GFLOP/s of a matrix product.
 * @typedef {{ cpuMs: number, wallMs: number, peakRssBytes?: number }} Round
 * @typedef {'cpuMs' | 'wallMs'} Clock cpuMs: what all of its threads computed.
 * @typedef {object} Rival One line of a result.
 * @property {string} name @property {string} [how] @property {number} [rate] Items for each second of the clock.
 * @property {number} [ratio] Its time to ours: above 1 we are faster. @property {number} [spreadPercent] Median absolute deviation of the ratio.
 * @property {number} [cpuRatio] The ratio of computing time where the clock is the wall's. @property {number} [peakRssBytes]
 * @property {number} [difference] Mean absolute one of its views from ours. @property {string} [missing] Why it was not timed.
 */

export const root = fileURLToPath(new URL('..', import.meta.url));
export const peer = (/** @type {string} */ name) => fileURLToPath(new URL(`peers/${name}`, import.meta.url));
export const median = (/** @type {readonly number[]} */ list) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;

/** Where bench/loader.cc is, built. */
export function loaderProgram() {
  const { status, stdout, stderr } = spawnSync('node', ['native/build.mjs', '--tests', '--cuda', 'off'], { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(`native/build.mjs --tests failed: ${stdout}${stderr}`);
  return `${root}build/tests/loader`;
}

/** What an output says last, but for Node.js's version and stack. @param {string} text */
function reasonIn(text) {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const reason = lines.findLast((line) => /^\S*(Error|error)\b/.test(line)) ?? lines.at(-1);
  return reason?.replace(/ imported from .*/, ''); // a path of this machine
}

export class Contender {
  /** @type {Round[]} */ #rounds = [];
  /** @type {import('node:child_process').ChildProcessWithoutNullStreams | undefined} */ #child;
  /** @type {AsyncIterator<string> | undefined} */ #lines;
  #errors = '';
  #program;
  #args;
  #env;
  /** @type {Ready} */ ready = { items: 0 };

  /** Starts with begin(). @param {string} name @param {string} program @param {readonly string[]} args @param {NodeJS.ProcessEnv} [env] */
  constructor(name, program, args, env = { OMP_NUM_THREADS: '1' }) {
    this.name = name;
    this.#program = program;
    this.#args = args;
    this.#env = env;
  }

  #start() {
    const child = spawn(this.#program, this.#args, { cwd: root, env: { ...process.env, ...this.#env } });
    child.stderr.on('data', (text) => {
      this.#errors = (this.#errors + text).slice(-5000);
    });
    child.stdin.on('error', () => {}); // it has ended, which the missing answer says
    child.on('error', (error) => {
      this.#errors = error.message;
    });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** @returns {Promise<any>} */
  async #answer() {
    const { value, done } = (await this.#lines?.next()) ?? { done: true };
    if (done) throw new Error(reasonIn(this.#errors) ?? 'it ended');
    return JSON.parse(value);
  }
  async begin() {
    if (!this.#child) {
      this.#start();
      this.ready = await this.#answer();
    }
    return this;
  }
  /** @returns {Promise<Round>} */
  async round() {
    this.#child?.stdin.write('go\n');
    const round = /** @type {Round} */ (await this.#answer());
    this.#rounds.push(round);
    return round;
  }
  /** Those that count. */
  get rounds() {
    return this.#rounds.slice(kWarmRounds);
  }
  /** Items for each second, at the median. @param {Clock} clock */
  rate(clock) {
    return (1000 * this.ready.items) / median(this.rounds.map((round) => round[clock]));
  }
  get peakRssBytes() {
    const peaks = this.rounds.flatMap(({ peakRssBytes }) => peakRssBytes ?? []);
    return peaks.length > 0 ? Math.max(...peaks) : undefined;
  }
  /** Whether more rounds would only cost time. */
  get isHeard() {
    const usedMs = this.#rounds.reduce((sum, { wallMs }) => sum + wallMs, 0);
    return this.#rounds.length >= kHeard.rounds && usedMs > kHeard.afterMs;
  }
  end() {
    this.#child?.kill();
  }
}

/** Time of an item of theirs to one of ours, round by round. @param {Contender} ours @param {Contender} theirs @param {Clock} clock */
function ratiosOf(ours, theirs, clock) {
  return theirs.rounds.flatMap((round, i) => {
    const own = ours.rounds[i]?.[clock] ?? Number.NaN;
    const ratio = round[clock] / theirs.ready.items / (own / ours.ready.items);
    return Number.isFinite(ratio) ? [ratio] : [];
  });
}

/** @param {Contender} ours @param {Contender} theirs @param {Clock} clock @returns {Rival} */
function lineOf(ours, theirs, clock) {
  const ratios = ratiosOf(ours, theirs, clock);
  const ratio = median(ratios);
  const { difference, how } = theirs.ready;
  const { peakRssBytes } = theirs;
  return {
    name: theirs.name,
    ...(how !== undefined && { how }),
    rate: theirs.rate(clock),
    ratio,
    spreadPercent: (100 * median(ratios.map((each) => Math.abs(each - ratio)))) / ratio,
    ...(clock === 'wallMs' && { cpuRatio: median(ratiosOf(ours, theirs, 'cpuMs')) }),
    ...(peakRssBytes !== undefined && { peakRssBytes }),
    ...(difference !== undefined && { difference }),
  };
}

const kNotInstalled = /ModuleNotFoundError|ERR_MODULE_NOT_FOUND|Cannot find (package|module)|ENOENT/;

/** @param {unknown} error */
function whyMissing(error) {
  const { message } = /** @type {Error} */ (error);
  return `${kNotInstalled.test(message) ? 'not installed' : 'cannot begin'} (${message})`;
}

/**
 * A case of ours among rivals. Those that cannot begin, or end before it does, are named with the reason and left out.
 * @param {Contender} ours @param {readonly Contender[]} rivals @param {(rival: Contender) => void} check Throws for one that does other work.
 * @param {Clock} [clock]
 * @returns {Promise<{ run: () => Promise<{ overriddenDuration: number }>, rivals: () => Rival[], end: () => void }>}
 */
export async function among(ours, rivals, check, clock = 'cpuMs') {
  const end = () => {
    for (const each of [ours, ...rivals]) each.end();
  };
  process.on('exit', end);
  await ours.begin();
  /** @type {Map<Contender, string>} */
  const missing = new Map();
  for (const rival of rivals) {
    try {
      await rival.begin();
    } catch (error) {
      missing.set(rival, whyMissing(error));
      continue;
    }
    check(rival);
  }
  const run = async () => {
    const own = await ours.round();
    for (const rival of rivals) {
      if (missing.has(rival) || rival.isHeard) continue;
      await rival.round().catch((error) => missing.set(rival, `ended: ${error.message}`));
    }
    return { overriddenDuration: own[clock] };
  };
  const lines = () =>
    rivals.map((rival) => {
      const why = missing.get(rival);
      return why === undefined ? lineOf(ours, rival, clock) : { name: rival.name, missing: why };
    });
  return { run, rivals: lines, end };
}
