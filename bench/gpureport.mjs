// @ts-check
// The report of `npm run gpu`: put together from several calls, and as Markdown: what passed, and each case beside its floor, its aim, its roof
// and PyTorch's best on the same GPU.
import { isDeepStrictEqual } from 'node:util';

/** @typedef {import('./gpu.mjs').Report} Report */

const rate = (/** @type {number} */ value) => Math.round(value).toLocaleString('en');
const times = (/** @type {number} */ value) => `${value.toFixed(value < 10 ? 2 : 1)}x`;
const gib = (/** @type {number} */ bytes) => (bytes / 2 ** 30).toFixed(bytes < 2 ** 33 ? 2 : 1);
const version = (/** @type {number} */ n) => `${Math.floor(n / 10000)}.${Math.floor(n / 100) % 100}.${n % 100}`;

/** @param {readonly string[]} header @param {readonly (readonly string[])[]} rows */
const table = (header, rows) =>
  [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '/')).join(' | ')} |`).join('\n');

/** PyTorch's fastest way. @param {Report} report @param {string} name @param {number} batch @param {readonly string[]} precisions */
function best(report, name, batch, precisions) {
  const found = report.peers.filter((peer) => peer.case === name && peer.batch === batch && precisions.includes(peer.precision));
  const worked = found.filter((peer) => peer.seconds !== undefined).sort((a, b) => Number(a.seconds) - Number(b.seconds));
  return { first: worked[0], error: found.find((peer) => peer.error)?.error };
}

/** A figure beside what it should be at least, and what it is aimed at. @param {string} text @param {number} value @param {number} floor @param {number} aim */
const judged = (text, value, floor, aim) =>
  `${text}, ${value >= aim ? `aim ${aim} reached` : value >= floor ? `floor ${floor} reached, aim ${aim} missed` : `**floor ${floor} missed**`}`;

/** MLPerf Training v4.0, ResNet-50: images a second of each H200. */
const kMlPerf = 7951;

const isGenerator = (/** @type {{ name: string }} */ { name }) => name.startsWith('generate/');

/** @param {Report} report */
function steps(report) {
  return report.bench
    .filter((result) => !isGenerator(result))
    .map((result) => {
      const pairs = Number(/-(\d+)(-fp16|-unordered)?$/.exec(result.name)?.[1] ?? 0);
      const { first, error } = best(report, 'comface', pairs, [result.precision ?? 'bf16']);
      const alone = best(report, 'resnet', pairs === 85 ? 256 : pairs === 341 ? 1024 : 0, [result.precision ?? 'bf16']).first;
      const ratio = first?.per_second === undefined ? undefined : result.rate / first.per_second;
      const isFor = pairs < 1024 && result.precision === 'bf16';
      return [
        `\`${result.name}\``,
        `${rate(result.rate)} ${result.unit}`,
        `${result.medianMs.toFixed(1)} ms, MAD ${result.madPercent.toFixed(1)} %`,
        result.sizeBytes === undefined ? '' : `${gib(result.sizeBytes)} GiB`,
        first ? `${rate(Number(first.per_second))}, ${first.way}, ${gib(Number(first.peak_bytes ?? 0))} GiB` : (error ?? 'not run'),
        alone ? `${rate(Number(alone.per_second))}, ${alone.way}` : '',
        [
          ratio === undefined ? '' : judged(times(ratio), ratio, 1.2, 2),
          isFor ? `${((100 * result.rate) / kMlPerf).toFixed(0)} % of ${rate(kMlPerf)}` : '',
        ]
          .filter(Boolean)
          .join('; '),
      ];
    });
}

/** Pictures of StyleGAN and StyleGAN3 beside the public implementations, as far as these were there. @param {Report} report */
function pictures(report) {
  return report.bench.filter(isGenerator).map((result) => {
    const there = (result.rivals ?? []).filter(({ ratio }) => ratio !== undefined);
    return [
      `\`${result.name}\``,
      `${result.rate.toPrecision(3)} ${result.unit}`,
      `${(1000 / result.rate).toFixed(2)} ms`,
      result.sizeBytes === undefined ? '' : `${gib(result.sizeBytes)} GiB`,
      result.generation ? `${(100 * result.generation.share).toFixed(0)} %` : '',
      there.map(({ name, ratio }) => `${name}: ${judged(times(Number(ratio)), Number(ratio), 1, 1.5)}`).join('; ') || 'not run',
    ];
  });
}

/** @param {Report} report */
function kernels(report) {
  const copy = report.kernels.find((kernel) => kernel.case === 'copy');
  const bandwidth = copy ? copy.bytes / copy.medianMs : undefined;
  return report.kernels.map((kernel) => {
    const perMs = kernel.bytes / kernel.medianMs;
    const share = bandwidth && kernel.case !== 'copy' ? (100 * perMs) / bandwidth : undefined;
    const aim = kernel.case === 'augment' && share !== undefined ? `, aim 50 ${share >= 50 ? 'reached' : 'missed'}` : '';
    const ofRoof = share === undefined ? '' : `${share.toFixed(0)} % of the copy${aim}`;
    let beside = '';
    if (kernel.case === 'infonce') {
      const { first, error } = best(report, 'infonce', kernel.size, ['bf16', 'fp32']);
      if (first) {
        const ratio = (1000 * Number(first.seconds)) / kernel.medianMs;
        beside = `${(1000 * Number(first.seconds)).toFixed(3)} ms, ${first.way}, ${gib(Number(first.peak_bytes ?? 0))} GiB: ${judged(times(ratio), ratio, 3, 10)}`;
      } else beside = error ?? 'not run';
    }
    if (kernel.case === 'augment') {
      const peer = report.peers.find((each) => each.case === 'augment' && each.per_second !== undefined);
      if (peer) {
        const ratio = (3 * kernel.size * 1000) / kernel.medianMs / Number(peer.per_second);
        beside = `${rate(Number(peer.per_second))} views/s: ${times(ratio)}, ${ratio >= 10 ? 'floor 10 reached' : '**floor 10 missed**'}`;
      } else beside = 'not run';
    }
    return [
      `${kernel.case} ${kernel.size.toLocaleString('en')} ${kernel.precision}`,
      `${kernel.medianMs.toPrecision(4)} ms`,
      `${(perMs / 1e9).toFixed(2)} TB/s`,
      kernel.flop > 0 ? `${(kernel.flop / kernel.medianMs / 1e9).toFixed(0)} TFLOP/s` : '',
      ofRoof,
      `${gib(kernel.memoryBytes)} GiB`,
      beside,
    ];
  });
}

/** Takes over what earlier calls of the same code on the same device measured. @param {Report} report @param {Report | undefined} earlier */
export function keepEarlier(report, earlier) {
  const isKnown = /^[0-9a-f]+$/.test(report.commit) && earlier?.commit === report.commit;
  if (!isKnown || !isDeepStrictEqual(earlier.device, report.device) || earlier.isQuick !== report.isQuick) return;
  const { stages, tests, figures, bench, kernels, peers } = earlier;
  Object.assign(report, { stages, tests, figures, bench, kernels, peers });
}

/** Forgets what a stage said that begins again; times stay until there are newer ones. @param {Report} report @param {string} name */
export function dropStage(report, name) {
  const isOther = (/** @type {{ stage: string }} */ { stage }) => stage !== name;
  report.stages = report.stages.filter((stage) => stage.name !== name);
  report.tests = report.tests.filter(isOther);
  report.figures = report.figures.filter(isOther);
}

/** Adds rows; one of the same key is replaced. @template T @param {T[]} list @param {readonly T[]} rows @param {(row: T) => string} keyOf */
export function put(list, rows, keyOf) {
  for (const row of rows) {
    const at = list.findIndex((each) => keyOf(each) === keyOf(row));
    if (at >= 0) list[at] = row;
    else list.push(row);
  }
}

/** @param {Report} report */
export function markdown(report) {
  const { device } = report;
  const passed = report.tests.reduce((sum, each) => sum + each.passed, 0);
  const failed = report.tests.flatMap((each) => each.failed);
  const parts = [
    `# ${device.name}`,
    `${report.date.slice(0, 10)}, commit ${report.commit}, driver ${device.driver}, cuDNN ${version(device.cudnn)}, cuBLASLt ${version(device.cublasLt)}, PyTorch ${device.torch}, ${gib(device.memoryBytes)} GiB${device.clocks ? `, ${device.clocks}` : ''}. Written by \`npm run gpu\`.`,
    ...(report.isEmulated ? ['**The CPU plays this GPU: no time here means anything.**'] : []),
    ...(report.isQuick ? ['**A quick run: a case or two of each stage.**'] : []),
    '## What was checked',
    table(
      ['stage', 'seconds', 'outcome'],
      report.stages.map(({ name, seconds, outcome }) => [name, seconds.toFixed(0), outcome]),
    ),
    `${passed} tests passed, ${failed.length} failed${failed.length > 0 ? `: ${failed.join('; ')}` : ''}.`,
    ...report.figures.map(({ id, line, state }) => `- ${state === 'failed' ? '**failed** ' : ''}${id} ${line}`),
  ];
  const drawn = pictures(report);
  if (report.bench.length > drawn.length) {
    parts.push(
      '## Whole training steps',
      "Files read and decoded, views made on the device, forward, backward, Adam; losses read every 10 steps. PyTorch's step begins with finished views in its memory: it reads, decodes and augments nothing. ResNet-50 alone is a training step of 256 or 1,024 images with neither heads nor losses.",
      table(
        ['case', 'rate', 'median of a run', 'buffers', "PyTorch's best, views/s", "PyTorch's ResNet-50 alone, images/s", ''],
        steps(report),
      ),
    );
  }
  if (drawn.length > 0) {
    parts.push(
      '## Pictures of generators',
      'Eight pictures of 1024 pixels at a time, in fp32 or with the larger layers of StyleGAN3 in fp16, read back; the share is of the rate of a product of two matrices.',
      table(['case', 'rate', 'a picture', 'buffers', 'share', 'PyTorch'], drawn),
    );
  }
  if (report.kernels.length > 0) {
    parts.push(
      '## Kernels',
      'By device events, against the bytes and FLOP that cannot be avoided.',
      table(['kernel', 'median', 'bytes', 'FLOP', '', 'memory', "PyTorch's best"], kernels(report)),
    );
  }
  for (const { name, outcome, tail } of report.stages)
    if (tail) parts.push(`### ${name}: ${outcome}`, `\`\`\`\n${tail.trim().slice(-1500)}\n\`\`\``);
  return `${parts.join('\n\n').replace(/\n\n- /g, '\n- ')}\n`;
}
