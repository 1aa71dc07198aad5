// @ts-check
// What a run of the bench prints: a table of the cases that fits a terminal, then who was timed beside them, growth, and what changed.

/** @typedef {import('./measure.mjs').Result} Result */

const mebibytes = (/** @type {number} */ bytes) => Math.round(bytes / 2 ** 20).toLocaleString('en');
export const rateText = (/** @type {number} */ rate) =>
  rate < 100 ? rate.toPrecision(3) : Math.round(rate).toLocaleString('en', { useGrouping: rate >= 10_000 });
export const msText = (/** @type {number} */ ms) => (ms >= 1000 ? ms.toFixed(0) : ms.toPrecision(3));
const said = (/** @type {boolean | undefined} */ is) => (is ? 'reached' : 'NOT reached');

/** Columns of text. @param {readonly (readonly string[])[]} rows @param {ReadonlySet<number>} left Columns that begin at the left. @param {string} [margin] */
export function columns(rows, left, margin = '') {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? '').length)));
  const pad = (/** @type {string} */ cell, /** @type {number} */ i) =>
    left.has(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0);
  return rows.map((row) => (margin + row.map(pad).join('  ')).trimEnd()).join('\n');
}

/** @param {readonly Result[]} results */
export function table(results) {
  const header = ['case', 'rate', '', 'median ms', '±', 'runs', 'peak MiB', 'threads', ''];
  const rows = results.map((r) => [
    r.name,
    rateText(r.rate),
    r.unit,
    msText(r.medianMs / (r.stepsPerRun ?? 1)),
    r.growth ? '' : `${r.madPercent.toFixed(1)} %`,
    String(r.samples),
    mebibytes(r.peakRssBytes),
    String(r.threads),
    r.line === undefined ? '' : `line ${r.line.toLocaleString('en')}: ${said(r.reached)}`,
  ]);
  return columns([header, ...rows], new Set([0, 2, 8]));
}

/** Rivals of a case, and what it has to reach beside them. @param {Result} result */
export function rivalTable({ name, unit, rate, peakRssBytes, rivals = [], ratioLines = [], isLean }) {
  const there = rivals.filter((rival) => rival.ratio !== undefined);
  const hasCpu = there.some(({ cpuRatio }) => cpuRatio !== undefined);
  const hasPeak = there.some((rival) => rival.peakRssBytes !== undefined);
  const header = ['', unit, 'ours is', '±', ...(hasCpu ? ['by CPU time'] : []), ...(hasPeak ? ['peak MiB'] : []), ''];
  const own = ['ours', rateText(rate), '', '', ...(hasCpu ? [''] : []), ...(hasPeak ? [mebibytes(peakRssBytes)] : []), ''];
  const rows = there.map((rival) => [
    rival.name,
    rateText(rival.rate ?? Number.NaN),
    `${rival.ratio?.toFixed(2)} x`,
    `${rival.spreadPercent?.toFixed(1)} %`,
    ...(hasCpu ? [`${rival.cpuRatio?.toFixed(2)} x`] : []),
    ...(hasPeak ? [rival.peakRssBytes === undefined ? '' : mebibytes(rival.peakRssBytes)] : []),
    [rival.how ?? '', rival.difference === undefined ? '' : `its views differ by ${rival.difference.toFixed(4)}`]
      .filter(Boolean)
      .join('; '),
  ]);
  const missing = rivals.flatMap((rival) => (rival.missing === undefined ? [] : [`  ${rival.name}: skipped, ${rival.missing}`]));
  const lines = ratioLines.map(({ to, line, ratio, reached }) => {
    const whom = to === 'best' ? 'the best of them' : to;
    return `  line ${line} x ${whom}: ${ratio === undefined ? 'no such rival here' : `${ratio.toFixed(2)} x, ${said(reached)}`}`;
  });
  const lean = isLean === undefined ? [] : [`  less memory than each of them: ${said(isLean)}`];
  const grid = there.length === 0 ? [] : [columns([header, own, ...rows], new Set([0, header.length - 1]), '  ')];
  return [name, ...grid, ...missing, ...lines, ...lean].join('\n');
}

/** How near pictures come to the rate of a matrix product. @param {Result} result */
export function generationLine({ name, generation }) {
  if (!generation) return '';
  const { flop, gemm, share } = generation;
  return `  ${name}: ${rateText(flop / 1e9)} GFLOP a picture, ${(100 * share).toFixed(0)} % of ${rateText(gemm)} GFLOP/s`;
}

/** @param {Result} result */
export function growthTable({ name, unit, growth }) {
  if (!growth) return '';
  const hasBytes = growth.points.some(({ bytes }) => bytes !== undefined);
  const header = [growth.x, 'ms', unit, ...(hasBytes ? ['MiB'] : [])];
  const rows = growth.points.map(({ x, ms, rate, bytes }) => [
    x.toLocaleString('en'),
    msText(ms),
    rateText(rate),
    ...(hasBytes ? [bytes === undefined ? '' : (bytes / 2 ** 20).toFixed(1)] : []),
  ]);
  const laws = growth.laws.map(({ of, words, expected, band, measured, held }) => {
    const what =
      measured === undefined
        ? 'too few points'
        : `${measured.toFixed(2)}${held === undefined ? ', not judged' : held ? ', held' : ', NOT held'}`;
    return `  ${of} as ${growth.x}^${expected} (${words}): ${what}, accepted ${band.join(' to ')}`;
  });
  return [name, columns([header, ...rows], new Set(), '  '), ...laws].join('\n');
}

/** @param {readonly import('./compare.mjs').Row[]} rows */
export function compareTable(rows) {
  const header = ['case', 'rival', 'then', 'now', ''];
  const cells = rows.map(({ name, rival, was, now, verdict }) => [
    name,
    rival,
    `${was.toFixed(2)} x`,
    now === undefined ? '' : `${now.toFixed(2)} x`,
    verdict,
  ]);
  return columns([header, ...cells], new Set([0, 1, 4]));
}
