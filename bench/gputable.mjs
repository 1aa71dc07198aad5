// @ts-check
// The report of `npm run gpu` as Markdown: what passed, and each case beside its floor, its roof and PyTorch's best on the same GPU.

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

/** @param {boolean} isReached @param {string} floor */
const judged = (isReached, floor) => `${floor}: ${isReached ? 'reached' : '**missed**'}`;

/** @param {Report} report */
function steps(report) {
  return report.bench.map((result) => {
    const pairs = Number(/-(\d+)(-fp16)?$/.exec(result.name)?.[1] ?? 0);
    const { first, error } = best(report, 'comface', pairs, [result.precision ?? 'bf16']);
    const ratio = first?.per_second === undefined ? undefined : result.rate / first.per_second;
    return [
      `\`${result.name}\``,
      `${rate(result.rate)} ${result.unit}`,
      `${result.medianMs.toFixed(1)} ms, MAD ${result.madPercent.toFixed(1)} %`,
      result.sizeBytes === undefined ? '' : `${gib(result.sizeBytes)} GiB`,
      first ? `${rate(Number(first.per_second))}, ${first.way}, ${gib(Number(first.peak_bytes ?? 0))} GiB` : (error ?? 'not run'),
      ratio === undefined ? '' : `${times(ratio)}; ${judged(ratio >= 1.2, 'floor 1.2x')}`,
    ];
  });
}

/** @param {Report} report */
function kernels(report) {
  const copy = report.kernels.find((kernel) => kernel.case === 'copy');
  const bandwidth = copy ? copy.bytes / copy.medianMs : undefined;
  return report.kernels.map((kernel) => {
    const perMs = kernel.bytes / kernel.medianMs;
    const ofRoof = bandwidth && kernel.case !== 'copy' ? `${((100 * perMs) / bandwidth).toFixed(0)} % of the copy` : '';
    let beside = '';
    if (kernel.case === 'infonce') {
      const { first, error } = best(report, 'infonce', kernel.size, ['bf16', 'fp32']);
      if (first) {
        const ratio = (1000 * Number(first.seconds)) / kernel.medianMs;
        beside = `${(1000 * Number(first.seconds)).toFixed(3)} ms, ${first.way}, ${gib(Number(first.peak_bytes ?? 0))} GiB: ${times(ratio)}; ${judged(ratio >= 3, 'floor 3x')}`;
      } else beside = error ?? 'not run';
    }
    if (kernel.case === 'augment') {
      const peer = report.peers.find((each) => each.case === 'augment' && each.per_second !== undefined);
      if (peer) {
        const ratio = (3 * kernel.size * 1000) / kernel.medianMs / Number(peer.per_second);
        beside = `${rate(Number(peer.per_second))} views/s: ${times(ratio)}; ${judged(ratio >= 10, 'floor 10x')}`;
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

/** @param {Report} report */
export function markdown(report) {
  const { device, tests } = report;
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
    `${tests.passed} tests passed, ${tests.failed.length} failed${tests.failed.length > 0 ? `: ${tests.failed.join('; ')}` : ''}.`,
    ...report.figures.map(({ id, line, state }) => `- ${state === 'failed' ? '**failed** ' : ''}${id} ${line}`),
  ];
  if (report.bench.length > 0) {
    parts.push(
      '## Whole training steps',
      "Files read and decoded, views made on the device, forward, backward, Adam; losses read every 10 steps. PyTorch's step begins with finished views in its memory: it reads, decodes and augments nothing.",
      table(['case', 'rate', 'median of a run', 'buffers', "PyTorch's best, views/s", ''], steps(report)),
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
