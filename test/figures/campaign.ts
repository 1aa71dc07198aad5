// Real trainings in child processes, killed at random moments and gone on with until they end; what the kills left is looked at each time.
// A run may be killed any number of times. It is over when a child ends by itself; then the next begins in a new folder.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { latestCheckpoint } from '../../lib/train/checkpoint.ts';
import { smallFaces, smallRun } from '../faces.ts';
import { temporaryFolder } from '../support.ts';
import { type Draw, drawer } from './damages.ts';

const victim = fileURLToPath(new URL('./victim.mjs', import.meta.url));
const kSaveEvery = 3;
/** Above the largest pid that Linux gives out. */
const kDeadPid = 2 ** 22 + 1;

/** What a child said and how it ended. */
interface Life {
  pid: number;
  /** Step that it began after; undefined when it did not come that far. */
  start: number | undefined;
  /** Last step and last checkpoint that it told of. */
  step: number;
  checkpoint: number;
  ended: boolean;
  killed: boolean;
  /** Of a typed error: its code and that of its cause. */
  error: string | undefined;
  exit: string;
  output: string;
}

export interface Campaign {
  kills: number;
  runs: number;
  /** Kills before the first step of a child, with a checkpoint half written, and with an old one half removed. */
  early: number;
  inSave: number;
  inPrune: number;
  faults: number;
  /** What went wrong, by kind. */
  lost: string[];
  differing: string[];
  badLogs: string[];
  leftovers: string[];
  /** Temporary files and folders planted for a start to remove, and starts that were looked at afterwards. */
  planted: number;
  starts: number;
}

/** The options of the run that is killed: 30 steps of a few milliseconds, ten checkpoints. */
const optionsOf = (data: string, out: string, keep: number) => ({
  ...smallRun,
  data,
  out,
  pairsPerEpoch: 40,
  checkpointEverySteps: kSaveEvery,
  keepCheckpoints: keep,
  resume: true,
});

/** When a child is killed: so long after it was spawned, began, or changed the names in its `checkpoints` for the n-th time. */
interface Moment {
  after: 'spawn' | 'start' | 'change';
  ms: number;
  change: number;
  folder: string;
}

/** Runs the victim and kills it at a moment; without one it lives. */
async function live(job: object, moment?: Moment): Promise<Life> {
  const child = spawn(process.execPath, [victim, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let timer: NodeJS.Timeout | undefined;
  const arm = () => {
    timer ??= setTimeout(() => child.kill('SIGKILL'), moment?.ms);
  };
  if (moment?.after === 'spawn') arm();
  let changes = 0;
  const watcher =
    moment?.after === 'change' ? watch(moment.folder, (_, name) => name?.startsWith('step-') && ++changes > moment.change && arm()) : null;
  child.stdout.on('data', (text: Buffer) => {
    output += text;
    if (moment?.after === 'start' && /^start /m.test(output)) arm();
  });
  child.stderr.on('data', (text: Buffer) => {
    output += text;
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => child.on('close', (...how) => resolve(how)));
  clearTimeout(timer);
  watcher?.close();
  const last = (word: string) => [...output.matchAll(new RegExp(`^${word} (\\d+)$`, 'gm'))].at(-1)?.[1];
  const start = last('start');
  return {
    pid: child.pid!,
    start: start === undefined ? undefined : Number(start),
    step: Number(last('step') ?? start ?? -1),
    checkpoint: Number(last('checkpoint') ?? -1),
    ended: code === 0 && /^end$/m.test(output),
    killed: signal === 'SIGKILL',
    error: /^error (\w+ \w*)/m.exec(output)?.[1],
    exit: signal ?? String(code),
    output,
  };
}

const list = (folder: string): string[] => {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not made yet
  }
};

/** Everything in a run folder that is not there to stay. */
function temporary(out: string): string[] {
  const inRun = list(out).filter((name) => /\.tmp-\d+$|takeover/.test(name));
  const inCheckpoints = list(join(out, 'checkpoints')).filter((name) => !/^step-\d{8}$/.test(name));
  return [...inRun, ...inCheckpoints];
}

/** Of weights and optimizer as they lie on the disk. */
function digest(checkpoint: string): string {
  const hash = createHash('sha256');
  for (const name of ['weights.safetensors', 'optimizer.safetensors']) hash.update(readFileSync(join(checkpoint, name)));
  return hash.digest('hex');
}

/** What is wrong with a log; its last line may be torn while nobody has gone on. */
function faultsOfLog(out: string, latest: number, mayMissLines: boolean): string[] {
  let text = '';
  try {
    text = readFileSync(join(out, 'log.jsonl'), 'utf8');
  } catch {} // killed before it was made
  const lines = text.split('\n').slice(0, -1);
  const bad: string[] = [];
  const steps: Record<string, number[]> = {};
  for (const line of lines) {
    try {
      const { type, step } = JSON.parse(line) as { type: string; step?: number };
      // A run that goes on from its last step saves it, and may end, once more.
      if (step === undefined || !['step', 'validation'].includes(type)) continue;
      steps[type] ??= [];
      steps[type].push(step);
    } catch {
      bad.push(`torn line ${JSON.stringify(line)}`);
    }
  }
  for (const [type, seen] of Object.entries(steps)) {
    if (seen.some((step, i) => i > 0 && step <= seen[i - 1]!)) bad.push(`${type} twice: ${seen}`);
  }
  const seen = steps.step ?? [];
  if (!mayMissLines && (seen.some((step, i) => step !== i + 1) || seen.length < latest))
    bad.push(`steps missing before ${latest}: ${seen}`);
  return bad;
}

/** Of a live process: it has to stay. */
const ours = `step-00000098.tmp-${process.pid}`;

/** Leaves behind what killed processes could have; returns how much. */
function plant(out: string): number {
  const checkpoints = join(out, 'checkpoints');
  mkdirSync(join(checkpoints, `step-00000099.tmp-${kDeadPid}`), { recursive: true });
  writeFileSync(join(checkpoints, `step-00000099.tmp-${kDeadPid}`, 'weights.safetensors'), 'torn');
  mkdirSync(join(checkpoints, `step-00000001.tmp-${kDeadPid + 1}`), { recursive: true });
  writeFileSync(join(out, `log.jsonl.tmp-${kDeadPid}`), 'torn');
  writeFileSync(join(out, `run.lock.0000.tmp-${kDeadPid}`), 'torn');
  return 4;
}

interface Setting {
  data: string;
  /** Hash of an uninterrupted run, and milliseconds from its spawn to its start and from there to its end. */
  expected: string;
  startMs: number;
  runMs: number;
  withFaults: boolean;
}

/** A sixth before or about the start, half of the rest anywhere in the training, the other half close to what a save does to the folder. */
function killMoment(draw: Draw, { startMs, runMs }: Setting, folder: string): Moment {
  if (draw(6) === 0) return { after: 'spawn', ms: draw(Math.ceil(startMs)), change: 0, folder };
  if (draw(2) === 0 || !existsSync(folder)) return { after: 'start', ms: draw(Math.ceil(0.4 * runMs)), change: 0, folder };
  return { after: 'change', ms: draw(8), change: draw(20), folder };
}

/** One run from its first start to its end. */
async function oneRun(setting: Setting, number: number, told: Campaign, isEnough: () => boolean): Promise<void> {
  const { data, withFaults } = setting;
  const draw = drawer(number);
  const out = join(temporaryFolder(), 'run');
  const words = () => `run ${number}, life ${lives}`;
  let [lives, latest] = [0, -1];
  for (;;) {
    if (lives > 0 && draw(3) === 0) told.planted += plant(out);
    if (lives === 1) mkdirSync(join(out, 'checkpoints', ours), { recursive: true });
    const fault =
      withFaults && draw(3) > 0
        ? { at: 1 + draw(150), code: ['ENOSPC', 'EIO', 'EACCES', 'EMFILE'][draw(4)]!, forGood: draw(2) === 0 }
        : undefined;
    const job = { options: optionsOf(data, out, 1 + (number % 2)), fault };
    const life = await live(job, isEnough() || (fault && draw(2) === 0) ? undefined : killMoment(draw, setting, join(out, 'checkpoints')));
    lives++;
    const isTold = fault !== undefined && life.error === `IO ${fault.code}`;
    if (life.killed) told.kills++;
    if (isTold) told.faults++;
    if (!life.killed && !life.ended && !isTold) return void told.lost.push(`${words()} ended with ${life.exit}: ${life.output}`);
    noteLeftovers(out, life, lives > 1, told, words());
    const found = await latestCheckpoint(out).catch((error: Error) => error);
    if (found instanceof Error) told.lost.push(`${words()}: ${found.message}`);
    const step = found instanceof Error ? latest : (found?.step ?? -1);
    if (step < Math.max(latest, life.checkpoint)) told.lost.push(`${words()}: step ${step} after ${latest} and ${life.checkpoint}`);
    if (life.start !== undefined && !fault && life.start !== Math.max(latest, 0)) told.lost.push(`${words()}: began after ${life.start}`);
    // A save may still be under way when the next is due; further ahead than that no run goes.
    if (life.step - Math.max(step, 0) > 2 * kSaveEvery) told.lost.push(`${words()}: step ${life.step} fell back to ${step}`);
    told.badLogs.push(...faultsOfLog(out, step, withFaults).map((text) => `${words()}: ${text}`));
    latest = step;
    if (life.ended) break;
    if (lives > 1000) throw new Error(`${words()}: no end`);
  }
  told.runs++;
  const last = join(out, 'checkpoints', `step-000000${smallRun.epochs * 10}`);
  if (latest !== smallRun.epochs * 10 || digest(last) !== setting.expected) told.differing.push(`run ${number}`);
}

/** Counts where the kill came, and what of earlier lives is still there after this one has begun. */
function noteLeftovers(out: string, life: Life, hasOurs: boolean, told: Campaign, words: string): void {
  const left = temporary(out);
  const own = left.filter((name) => name.endsWith(`.tmp-${life.pid}`));
  if (life.killed) {
    const stepsLeft = own.flatMap((name) => /^step-(\d+)/.exec(name)?.[1] ?? []).map(Number);
    const steps = list(join(out, 'checkpoints')).flatMap((name) => /^step-(\d{8})$/.exec(name)?.[1] ?? []);
    const newest = Math.max(-1, ...steps.map(Number));
    if (life.start === undefined) told.early++;
    if (stepsLeft.some((step) => step > newest)) told.inSave++;
    if (stepsLeft.some((step) => step < newest)) told.inPrune++;
  }
  if (life.start === undefined) return;
  told.starts++;
  // Its own are for the next start to remove, unless it has come to its end.
  const bad = left.filter((name) => name !== ours && (life.ended || !own.includes(name)));
  told.leftovers.push(...bad.map((name) => `${words}: ${name}`));
  if (hasOurs && !left.includes(ours)) told.leftovers.push(`${words}: ${ours} of a live process is gone`);
}

/** Kills `count` children, or makes so many kills and faults, two children at a time, and goes on with every run to its end. */
export async function campaign(count: number, { withFaults = false } = {}): Promise<Campaign> {
  const folder = temporaryFolder();
  const data = await smallFaces(folder);
  const spawned = performance.now();
  const out = join(folder, 'whole');
  const whole = await live({ options: optionsOf(data, out, 1) });
  const wholeMs = performance.now() - spawned;
  const log = readFileSync(join(out, 'log.jsonl'), 'utf8').trim().split('\n');
  const runMs = 1000 * (JSON.parse(log.at(-1)!) as { seconds: number }).seconds;
  if (!whole.ended) throw new Error(`The run without a kill ended with ${whole.exit}: ${whole.output}`);
  const expected = digest(join(out, 'checkpoints', 'step-00000030'));
  const setting: Setting = { data, expected, startMs: wholeMs - runMs, runMs, withFaults };
  const told: Campaign = {
    ...{ kills: 0, runs: 0, early: 0, inSave: 0, inPrune: 0, faults: 0, planted: 0, starts: 0 },
    ...{ lost: [], differing: [], badLogs: [], leftovers: [] },
  };
  let number = 0;
  // What went wrong once is enough as well.
  const isWrong = () => told.lost.length + told.differing.length + told.badLogs.length + told.leftovers.length > 0;
  const isEnough = () => told.kills + told.faults >= count || isWrong();
  const lane = async () => {
    while (!isEnough()) await oneRun(setting, ++number, told, isEnough);
  };
  await Promise.all([lane(), lane()]);
  return told;
}
