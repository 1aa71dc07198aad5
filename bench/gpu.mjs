// @ts-check
// Everything that only a GPU can show, in one run: does it compute what the CPU computes, are the kernels clean, how fast is it beside PyTorch.
// Writes <device>.json and <device>.md after each stage, so that what was measured stays when a later stage is cut off. Stages of an earlier call
// that this one leaves alone are kept, where commit and device are the same: a GPU that is lent for minutes can be used in several calls.
//   npm run gpu -- [--out FOLDER] [--only STAGE,...] [--built] [--minutes N] [--quick]     in a bare place: node bench/gpu.mjs --built ...
// Stages: build, tests, bench, kernels, peers, sanitizer. It needs no network and no npm.
// --built: what is built is of this commit, so that the place needs nothing to build with.
// --quick: a case or two of each stage, to see whether it runs.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { dropStage, keepEarlier, markdown, put } from './gpureport.mjs';

/**
 * @typedef {{ name: string, seconds: number, outcome: string, tail?: string }} Stage outcome: done, failed, cut off, or why it was left out.
 * @typedef {{ case: string, size: number, precision: string, medianMs: number, bytes: number, flop: number, memoryBytes: number }} KernelTime
 * @typedef {{ case: string, batch: number, precision: string, way: string, seconds?: number, per_second?: number, peak_bytes?: number, error?: string }} PeerTime
 * @typedef {import('./measure.mjs').Result & { precision?: string }} BenchResult
 * @typedef {{ stage: string, id: string, line: string, state: string, seconds: number }} Figure
 * @typedef {{ stage: string, passed: number, failed: string[] }} Tests
 * @typedef {object} Report
 * @property {string} date @property {string} commit @property {boolean} isEmulated @property {boolean} isQuick
 * @property {{ name: string, capability: number, memoryBytes: number, driver: string, clocks: string, cudnn: number, cublasLt: number, torch: string }} device
 * @property {Stage[]} stages
 * @property {Tests[]} tests
 * @property {Figure[]} figures
 * @property {BenchResult[]} bench @property {KernelTime[]} kernels @property {PeerTime[]} peers
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: options } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'docs/gpu') },
    only: { type: 'string' },
    built: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '8.5' },
    quick: { type: 'boolean', default: false },
  },
});
const isQuick = options.quick;
const started = Date.now();
const secondsUntil = (/** @type {number} */ time) => (time - Date.now()) / 1000;
const end = started + Number(options.minutes) * 60_000;
let stageEnd = end;
const secondsLeft = () => secondsUntil(stageEnd);
const work = mkdtempSync(join(tmpdir(), 'comface-gpu-'));

/**
 * Runs a program to its end or its time's.
 * @param {string} program @param {string[]} args @param {{ seconds?: number, env?: NodeJS.ProcessEnv, isShown?: boolean }} [how]
 * @returns {Promise<{ status: number | string | null, out: string, text: string }>} text: the end of both outputs.
 */
function run(program, args, { seconds = secondsLeft(), env = {}, isShown = false } = {}) {
  return new Promise((done) => {
    let [out, text, isLate] = ['', '', false];
    // A group of its own, so that the programs that it starts end with it.
    const child = spawn(program, args, { cwd: root, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const timer = setTimeout(() => {
      isLate = true;
      if (child.pid) process.kill(-child.pid, 'SIGKILL');
    }, 1000 * Math.max(1, seconds));
    const take = (/** @type {Buffer} */ chunk) => {
      text = (text + chunk).slice(-20_000);
      if (isShown) process.stdout.write(chunk);
    };
    child.stdout.on('data', (chunk) => {
      out += chunk;
      take(chunk);
    });
    child.stderr.on('data', take);
    child.on('error', (error) => done({ status: error.message, out, text }));
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      done({ status: isLate ? 'cut off' : (signal ?? status), out, text });
    });
  });
}

/** What an earlier call did not come to goes first. @param {readonly string[]} cases @param {(name: string) => boolean} isThere */
const newFirst = (cases, isThere) => [...cases].sort((a, b) => Number(isThere(a)) - Number(isThere(b)));

/** @param {Report} report @param {string} words */
function isMeasured(report, words) {
  const batch = Number(/--batch (\d+)/.exec(words)?.[1]);
  const precision = /--precision (\S+)/.exec(words)?.[1] ?? 'bf16';
  const ways = /--ways (\S+)/.exec(words)?.[1]?.split(',') ?? ['eager'];
  const isRow = (/** @type {string} */ way) => (/** @type {PeerTime} */ row) =>
    words.startsWith(`${row.case} `) && row.batch === batch && row.precision === precision && row.way.split(',')[0] === way;
  return ways.every((way) => report.peers.some(isRow(way)));
}

const jsonLines = (/** @type {string} */ text) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));

/** @param {string} file */
const readJson = (file) => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined);

/** @returns {Promise<Report>} */
async function begin() {
  const { native } = await import('../dist/native.js');
  const found = native().module.cuda();
  if (!found.available) {
    console.error(`No usable GPU (stage \`${found.stage}\`): ${found.reason}\n  node dist/cli.js doctor shows every stage and what to do.`);
    process.exit(1);
  }
  const [smi, torch, commit, dirty] = await Promise.all([
    run('nvidia-smi', ['--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit', '--format=csv,noheader'], { seconds: 20 }),
    run('python3', ['-c', 'import torch; print(torch.__version__)'], { seconds: 60 }),
    run('git', ['rev-parse', 'HEAD'], { seconds: 5 }),
    run('git', ['status', '--porcelain', '--', 'lib', 'native', 'test', 'bench'], { seconds: 5 }),
  ]);
  const [driver = 'unknown', ...clocks] = smi.status === 0 ? smi.out.trim().split(', ') : [];
  const hash = commit.status === 0 ? commit.out.trim().slice(0, 12) : (process.env.COMFACE_COMMIT?.slice(0, 12) ?? 'unknown');
  const device = /** @type {import('../dist/native.js').NativeCuda['devices'][0]} */ (found.devices[0]);
  return {
    date: new Date().toISOString(),
    commit: hash + (dirty.out.trim() === '' ? '' : ' and changes'),
    isEmulated: device.name.startsWith('emulated'),
    isQuick,
    device: {
      ...device,
      driver,
      clocks: clocks.join(', '),
      cudnn: found.cudnn,
      cublasLt: found.cublasLt,
      torch: torch.status === 0 ? torch.out.trim() : 'not there',
    },
    stages: [],
    tests: [],
    figures: [],
    bench: [],
    kernels: [],
    peers: [],
  };
}

const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const testEnv = () => ({ COMFACE_TEST_CUDA: process.env.COMFACE_TEST_CUDA ?? 'gpu' });

/** @param {Report} report @param {string} stage @param {string[]} files @param {string} names */
async function test(report, stage, files, names) {
  const [figures, results] = [join(work, 'figures.json'), join(work, 'tests.json')];
  for (const file of [figures, results]) rmSync(file, { force: true });
  const reporters = ['--reporter', 'default', '--reporter', './test/figures/reporter.ts', '--reporter', 'json', '--outputFile', results];
  // One file at a time: one of them fills the GPU's memory. compute-sanitizer makes a test take many times as long.
  const how = ['--no-file-parallelism', '--testTimeout', '400000'];
  const args = [vitest, 'run', '--config', 'test/vitest.config.ts', ...how, ...reporters, ...files, '-t', names];
  const { status, text } = await run(process.execPath, args, { env: { ...testEnv(), COMFACE_FIGURES: figures }, isShown: true });
  report.figures.push(...(readJson(figures) ?? []).map((/** @type {object} */ figure) => ({ stage, ...figure })));
  const all = readJson(results)?.testResults.flatMap((/** @type {any} */ file) => file.assertionResults) ?? [];
  const count = (/** @type {string} */ state) => all.filter((/** @type {any} */ each) => each.status === state);
  const failed = count('failed').map((/** @type {any} */ each) => each.fullName);
  if (status !== 0 && all.length === 0) failed.push(`${files.join(', ')} ended with ${status}`);
  report.tests.push({ stage, passed: count('passed').length, failed });
  return { status, text };
}

/** Sizes: InfoNCE's of SimCLR to beyond CLIP, pictures of a step, numbers of a ResNet-50's Adam, rows of its widest normalization, tokens of a ViT-B/16's
 * step, pictures of a smaller step, a layer of StyleGAN3 for eight. */
const kernelCases = isQuick
  ? ['infonce 256', 'augment 2', 'copy 1048576']
  : [
      'copy 4294967296',
      ...[2048, 8192, 32768, 65536].map((rows) => `infonce ${rows}`),
      ...['bf16', 'fp32'].map((type) => `augment 256 ${type}`),
      'adam 30000000',
      ...[802816, 3211264].map((rows) => `norm ${rows}`),
      'layerNorm 50235',
      ...['bf16', 'fp32'].map((type) => `attention 255 ${type}`),
      'efficient 255',
      ...['fp32', 'fp16'].flatMap((type) => [`filtered 4096 ${type}`, `radial 4096 ${type}`]),
    ];

/** One at a time, so that what ended stays when time does; what shows most first. @type {[file: string, names: string][]} */
const testCalls = isQuick
  ? [['figures/cuda.test', '^N4 each op in fp16']]
  : [
      ['figures/kernels.test', ''],
      ['test/cuda.test', ''],
      ['figures/cuda.test', '^N4 whole'],
      ['figures/cuda.test', '^N4 each op of generators'],
      ['figures/cuda.test', '^N4 each op in bf16'],
      ['cudatrain.test', ''],
      ['figures/golden.test', ''],
      ['figures/cuda.test', '^N4 each op in fp32'],
      ['figures/cuda.test', '^N4 each op in fp16'],
    ];

const benchCases = isQuick
  ? ['train/resnet18-32-narrow']
  : [
      'train/resnet50-224-85',
      'train/resnet50-224-341',
      'train/resnet50-224-85-unordered',
      'train/resnet50-224-341-unordered',
      'train/resnet50-224-85-fp16',
      'train/resnet50-224-341-fp16',
      'train/resnet50-224-1024',
      'train/vit_b_16-224-85',
      'generate/stylegan1',
      'generate/stylegan3-t',
      'generate/stylegan3-t-fp16',
      'generate/stylegan3-r',
      'generate/stylegan3-r-fp16',
    ];

/** What is most likely PyTorch's best first, for time may end; then what shows that it is. */
const peerCases = isQuick
  ? ['infonce --batch 256 --seconds 0.1 --ways eager']
  : [
      'comface --batch 85 --seconds 2 --ways graph,compile+graph',
      'comface --batch 341 --seconds 2 --ways graph,compile+graph',
      ...[2048, 8192, 32768, 65536].map((rows) => `infonce --batch ${rows} --seconds 0.5 --ways graph,compile+graph`),
      'augment --batch 64 --seconds 1',
      ...[256, 1024].map((images) => `resnet --batch ${images} --seconds 2 --ways graph`),
      'comface --batch 1024 --chunks 4 --seconds 3 --ways eager',
      'comface --batch 85 --precision fp16 --seconds 2 --ways eager,compile',
      'comface --batch 341 --precision fp16 --seconds 2 --ways eager',
      ...[85, 341].map((pairs) => `comface --batch ${pairs} --seconds 1 --ways eager`),
      ...[2048, 65536].map((rows) => `infonce --batch ${rows} --seconds 0.5 --ways eager`),
      'resnet --batch 256 --seconds 2 --ways compile+graph',
    ];

/** @type {Record<string, (report: Report) => Promise<{ status: number | string | null, text: string }>>} */
const stages = {
  build: () => run(process.execPath, ['native/build.mjs', '--gpu']),
  async tests(report) {
    let failed = '';
    for (const [file, names] of testCalls) {
      if (secondsLeft() < 10) return { status: 'cut off', text: `${failed}not begun: ${file} ${names}` };
      const { status, text } = await test(report, 'tests', [file], names);
      if (status !== 0) failed += `${file} ${names}: ${status}\n${text.slice(-1500)}\n`;
    }
    return { status: failed === '' ? 0 : 1, text: failed };
  },
  async bench(report) {
    const file = join(work, 'bench.jsonl');
    const failed = [];
    for (const name of newFirst(benchCases, (each) => report.bench.some((row) => row.name === each))) {
      if (secondsLeft() < 20) return { status: 'cut off', text: failed.join('\n') };
      const { status, text } = await run(process.execPath, [
        'bench/run.mjs',
        name,
        '--device',
        'cuda',
        '--json',
        file,
        ...(isQuick ? ['--quick'] : []),
      ]);
      console.log(text.trim().split('\n').at(-1));
      if (status === 0) put(report.bench, jsonLines(readFileSync(file, 'utf8')), (row) => row.name);
      else failed.push(`${name}: ${status}\n${text.slice(-1500)}`);
    }
    return { status: failed.length === 0 ? 0 : 1, text: failed.join('\n') };
  },
  async kernels(report) {
    const program = `${process.env.COMFACE_GPU_PROGRAMS ?? join(root, 'build/Release/gpu/gpu-')}kernels`;
    const failed = [];
    for (const words of kernelCases) {
      if (secondsLeft() < 3) return { status: 'cut off', text: failed.join('\n') };
      const seconds = Math.min(60, secondsLeft());
      const { status, out, text } = await run(program, [...words.split(' '), '--seconds', isQuick ? '0.01' : '0.5'], { seconds });
      console.log(text.trim());
      if (status === 0) put(report.kernels, jsonLines(out), (row) => `${row.case} ${row.size} ${row.precision}`);
      else failed.push(`${words}: ${status}\n${text.slice(-500)}`);
    }
    return { status: failed.length === 0 ? 0 : 1, text: failed.join('\n') };
  },
  async peers(report) {
    if (report.device.torch === 'not there') return { status: 'left out: python3 has no torch', text: '' };
    const device = report.isEmulated ? ['--device', 'cpu'] : [];
    let text = '';
    for (const words of newFirst(peerCases, (each) => isMeasured(report, each))) {
      if (secondsLeft() < 15) return { status: 'cut off', text };
      const peer = await run('python3', ['bench/peers/peers.py', ...words.split(' '), ...device]);
      console.log(peer.out.trim());
      put(report.peers, jsonLines(peer.out), (row) => `${row.case} ${row.batch} ${row.precision} ${row.way}`);
      if (peer.status !== 0) text += `${words}: ${peer.status}\n${peer.text.slice(-1500)}\n`;
    }
    return { status: text === '' ? 0 : 1, text };
  },
  sanitizer: (report) => test(report, 'sanitizer', ['figures/cuda.test'], '^N5'),
};

/** Seconds that a stage may take where others want some, too: 8.4 minutes without a build. */
const most = { build: 240, tests: 150, bench: 130, kernels: 45, peers: 110, sanitizer: 70 };

const kNoTime = 'left out: no time';
const wanted = (options.only ?? Object.keys(stages).join(',')).split(',').filter((name) => !(options.built && name === 'build'));
const unknown = wanted.filter((name) => !Object.hasOwn(stages, name));
if (unknown.length > 0 || !(Number(options.minutes) > 0)) {
  console.error(
    `Expected stages of ${Object.keys(stages).join(', ')} and --minutes above 0 but received ${options.only}, ${options.minutes}`,
  );
  process.exit(2);
}
const report = await begin();
mkdirSync(resolve(options.out), { recursive: true });
const place = join(resolve(options.out), report.device.name.replace(/[^\w.-]+/g, '-').toLowerCase());
keepEarlier(report, readJson(`${place}.json`));
const order = Object.keys(stages);
const write = () => {
  report.stages.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  writeFileSync(`${place}.json`, `${JSON.stringify(report, null, 1)}\n`);
  writeFileSync(`${place}.md`, markdown(report));
};
for (const name of wanted) {
  if (secondsUntil(end) < 10) {
    dropStage(report, name);
    report.stages.push({ name, seconds: 0, outcome: kNoTime });
    continue;
  }
  dropStage(report, name);
  const from = Date.now();
  const share = wanted.length > 1 ? from + 1000 * most[/** @type {keyof typeof most} */ (name)] : end;
  stageEnd = Math.min(share, end - 5000);
  console.log(`\n== ${name} (${secondsLeft().toFixed(0)} of ${secondsUntil(end).toFixed(0)} s left)`);
  const { status, text } = await /** @type {NonNullable<typeof stages[string]>} */ (stages[name])(report);
  const outcome = status === 0 ? 'done' : typeof status === 'string' ? status : 'failed';
  report.stages.push({ name, seconds: (Date.now() - from) / 1000, outcome, ...(status === 0 ? {} : { tail: text.slice(-4000) }) });
  write();
}
write();
rmSync(work, { recursive: true, force: true });
console.log(`\n${readFileSync(`${place}.md`, 'utf8')}\n${place}.json and .md, ${((Date.now() - started) / 1000).toFixed(0)} s`);
const isBad =
  report.stages.some(({ outcome }) => ['failed', 'cut off', kNoTime].includes(outcome)) ||
  report.tests.some(({ failed }) => failed.length > 0);
process.exit(isBad ? 1 : 0);
