// @ts-check
// docs/performance.md from results of the bench: pure functions from results and notes to text and charts. bench/performance.mjs reads and writes.
import { barChart, lineChart } from '../dist/report/charts.js';
import { isaOf } from './machine.mjs';
import { msText, rateText } from './tables.mjs';

/** @typedef {import('./measure.mjs').Result} Result */

/** Groups in the order of the page. */
const titles = {
  train: 'Training steps',
  rest: 'The rest of a training run',
  op: 'Classes of ops',
  infonce: 'InfoNCE',
  data: 'The data path',
  augment: 'Views for JavaScript',
  faces: 'Drawing faces',
  embed: 'Embeddings',
  compare: 'Comparisons',
  generate: 'Pictures of StyleGAN and StyleGAN3',
  start: 'Start-up',
  grow: 'Cost as work grows',
};
const groupOf = (/** @type {string} */ name) => name.split('/')[0] ?? name;
const mebibytes = (/** @type {number | undefined} */ bytes) =>
  bytes === undefined ? '' : `${Math.round(bytes / 2 ** 20).toLocaleString('en')} MiB`;
const times = (/** @type {number | undefined} */ ratio) => (ratio === undefined ? '' : `${ratio.toFixed(2)} x`);
const timeText = (/** @type {number} */ ms) => `${msText(ms)} ms`;

/** @param {readonly string[]} header @param {readonly (readonly string[])[]} rows */
const table = (header, rows) =>
  [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '/')).join(' | ')} |`).join('\n');

/** Colors of a picture that stands alone: its own paper, so that ink is seen on any page. */
const kLook =
  '<style>svg{background:#fff;color:#1f2328}@media(prefers-color-scheme:dark){svg{background:#161b22;color:#e6edf3;--series-0:#6cb0f5;--series-1:#e39a55;--series-2:#5d8f7c;--series-3:#d77fa8}}</style>';
const alone = (/** @type {string} */ svg) => `${svg.replace('</title>', `</title>${kLook}`)}\n`;

const rounded = (/** @type {number} */ rate) => Number(rate.toPrecision(3));

/** Ours and its rivals, by their rates. @param {Result} result */
function rivalChart({ name, unit, rate, rivals = [] }) {
  const bars = rivals.flatMap((rival) => (rival.rate === undefined ? [] : [{ name: rival.name, value: rounded(rival.rate) }]));
  return bars.length === 0
    ? undefined
    : alone(barChart([{ name: 'comface', value: rounded(rate) }, ...bars], { title: `${name}: ${unit}`, xLabel: unit }));
}

/** Logarithms, with the line of the law through the last point. @param {Result} result */
function growthChart({ name, growth }) {
  if (!growth || growth.points.length < 2) return undefined;
  const { points, laws } = growth;
  const x = points.map((point) => Math.log10(point.x));
  const law = laws.find(({ of }) => of !== 'bytes');
  const perItem = law?.of === 'time of an item';
  const y = points.map(({ ms, rate }) => Math.log10(perItem ? 1e6 / rate : ms));
  const measured = { name: 'measured', x, y };
  const [endX = 0, endY = 0] = [x.at(-1), y.at(-1)];
  const expected = law && { name: `as ${growth.x}^${law.expected}`, x, y: x.map((at) => endY + law.expected * (at - endX)), dashed: true };
  const yLabel = `log10 of ${perItem ? 'µs an item' : 'ms'}`;
  return alone(lineChart([measured, ...(expected ? [expected] : [])], { title: name, xLabel: `log10 of ${growth.x}`, yLabel }));
}

/** By file name. @param {readonly Result[]} results @returns {Map<string, string>} */
export function charts(results) {
  const made = new Map();
  for (const result of results) {
    const chart = growthChart(result) ?? (['train', 'data'].includes(groupOf(result.name)) ? rivalChart(result) : undefined);
    if (chart) made.set(`performance-${result.name.replaceAll('/', '-')}.svg`, chart);
  }
  return made;
}

/** @param {readonly Result[]} results */
function machines(results) {
  const lines = results.map(({ cpu, versions, date = '', commit = 'unknown', isDirty }) => {
    const memory = `${Math.round(cpu.memoryBytes / 2 ** 30)} GiB`;
    const kept = ['comface', 'node'].map((name) => `${name} ${versions[name]}`).join(', ');
    const words = `${cpu.model ?? 'an unknown processor'}, ${cpu.cores} cores, ${isaOf(cpu)}, ${memory}; ${kept}`;
    return { words, day: date.slice(0, 10), commit: `${commit.slice(0, 12)}${isDirty ? ' with changes' : ''}` };
  });
  return [...new Set(lines.map(({ words }) => words))].map((words) => {
    const own = lines.filter((line) => line.words === words);
    const days = [...new Set(own.map(({ day }) => day))].sort();
    const commits = [...new Set(own.map(({ commit }) => commit))].join(', ');
    return `- ${[...new Set([days[0], days.at(-1)])].join(' to ')}: ${words}; commit ${commits}`;
  });
}

/** What it has to reach, and whether it does. @param {Result} result */
function linesOf({ line, reached, ratioLines = [], isLean }) {
  const said = (/** @type {boolean | undefined} */ is) => (is ? 'reached' : '**missed**');
  return [
    ...(line === undefined ? [] : [`${line.toLocaleString('en')}: ${said(reached)}`]),
    ...ratioLines.map(({ to, line: most, ratio, reached: is }) => {
      const whom = to === 'best' ? 'the best rival' : to;
      return `${most} x ${whom}: ${ratio === undefined ? 'no such rival was there' : `${times(ratio)}, ${said(is)}`}`;
    }),
    ...(isLean === undefined ? [] : [`less memory than each rival: ${said(isLean)}`]),
  ].join('; ');
}

/** @param {readonly Result[]} results */
const caseTable = (results) =>
  table(
    ['case', 'rate', 'median', 'spread', 'peak memory', 'threads', 'lines'],
    results.map((r) => [
      `\`${r.name}\``,
      `${rateText(r.rate)} ${r.unit}`,
      timeText(r.medianMs / (r.stepsPerRun ?? 1)),
      r.growth ? '' : `±${r.madPercent.toFixed(1)} %`,
      mebibytes(r.peakRssBytes),
      String(r.threads),
      linesOf(r),
    ]),
  );

/** @param {readonly Result[]} results */
function rivalTables(results) {
  const rows = results.flatMap(({ name, unit, rivals = [] }) =>
    rivals
      .filter(({ ratio }) => ratio !== undefined)
      .map((rival) => [
        `\`${name}\``,
        rival.name,
        `${rateText(rival.rate ?? Number.NaN)} ${unit}`,
        `${times(rival.ratio)} ±${rival.spreadPercent?.toFixed(1)} %`,
        times(rival.cpuRatio),
        mebibytes(rival.peakRssBytes),
        rival.how ?? '',
      ]),
  );
  const missing = results.flatMap(({ name, rivals = [] }) =>
    rivals.flatMap((rival) => (rival.missing === undefined ? [] : [`\`${name}\`: ${rival.name} was not there: ${rival.missing}`])),
  );
  const header = ['case', 'rival', 'rate', 'ours is', 'by computing time', 'its peak memory', 'with'];
  return [...(rows.length > 0 ? [table(header, rows)] : []), ...missing.map((line) => `- ${line}`)]
    .join('\n\n')
    .replaceAll('\n\n- ', '\n- ');
}

/** @param {Result} result */
function restText({ name, rest }) {
  if (!rest) return [];
  const rows = rest.threads.map(({ name: thread, percent }) => [thread, `${percent.toFixed(1)} %`]);
  return [
    `A step of \`${name}\` takes ${Math.abs(rest.percent).toFixed(1)} % ${rest.percent < 0 ? 'less, which is noise,' : 'longer'} in a run than on given numbers (at most ${rest.line} % longer), its share of a checkpoint every ${rest.checkpointEverySteps.toLocaleString('en')} steps with it (one costs ${timeText(rest.checkpointMs)}). Its computing time by threads:`,
    table(['threads', 'share'], rows),
  ];
}

/** @param {readonly Result[]} results */
function generationText(results) {
  const rows = results.flatMap(({ name, generation }) => {
    if (!generation) return [];
    const { flop, gemm, share } = generation;
    return [[`\`${name}\``, `${rounded(flop / 1e9)} GFLOP`, `${rounded(gemm)} GFLOP/s`, `${(100 * share).toFixed(0)} %`]];
  });
  return rows.length === 0 ? [] : [table(['case', 'products of a picture', 'a matrix product of the same process', 'share of it'], rows)];
}

/** @param {Result} result */
function growthText({ name, growth }) {
  if (!growth) return [];
  const laws = growth.laws.map(({ of, words, expected, band, measured, held }) => {
    const found =
      measured === undefined
        ? 'too few points'
        : `exponent ${measured.toFixed(2)}${held === false ? ', **not held**' : held ? '' : ', not judged'}`;
    return `- \`${name}\`: ${of} as ${growth.x}^${expected} (${words}); ${found}, accepted ${band.join(' to ')}.`;
  });
  const rows = growth.points.map(({ x, ms, rate, bytes }) => [x.toLocaleString('en'), timeText(ms), rateText(rate), mebibytes(bytes)]);
  return [table([growth.x, 'time', 'rate', 'buffers'], rows), laws.join('\n')];
}

/** Every ratio below its line or below 1, every line and law that is not reached. @param {readonly Result[]} results */
export function losses(results) {
  return results.flatMap((result) => {
    const { name, rate, unit, line, reached, rivals = [], ratioLines = [], isLean, growth, rest } = result;
    const found = [];
    if (line !== undefined && !reached) found.push(`${rateText(rate)} ${unit} of ${line.toLocaleString('en')}`);
    for (const { to, line: most, ratio, reached: is } of ratioLines)
      if (ratio !== undefined && !is) found.push(`${times(ratio)} ${to === 'best' ? 'the best rival' : to}, where ${most} x is the line`);
    for (const rival of rivals)
      if (rival.ratio !== undefined && rival.ratio < 1) found.push(`slower than ${rival.name}: ${times(rival.ratio)}`);
    if (rest && rest.percent > rest.line) found.push(`a run takes ${rest.percent.toFixed(1)} % longer, where ${rest.line} % is the line`);
    if (isLean === false) found.push('more memory than a rival');
    for (const law of growth?.laws ?? [])
      if (law.held === false) found.push(`${law.of} grows with exponent ${law.measured?.toFixed(2)}, not ${law.band.join(' to ')}`);
    return found.length === 0 ? [] : [`- \`${name}\`: ${found.join('; ')}.`];
  });
}

/** Notes by their headings; what stands before the first is the introduction, ''. @param {string} text @returns {Map<string, string>} */
export function sectionsOf(text) {
  const sections = new Map([['', '']]);
  let heading = '';
  for (const line of text.split('\n')) {
    const found = /^## (.+)$/.exec(line)?.[1];
    if (found !== undefined) heading = found;
    else sections.set(heading, `${sections.get(heading) ?? ''}${line}\n`);
  }
  return new Map([...sections].map(([key, value]) => [key, value.trim()]));
}

/** @param {readonly Result[]} results @param {string} notes Markdown: sections with a group's name stand in its section, others at the end, in their order. */
export function page(results, notes) {
  const sections = sectionsOf(notes);
  const pictures = [...charts(results).keys()];
  const parts = ['# Performance', sections.get('') ?? '', machines(results).join('\n')];
  if (results.some(({ isQuick }) => isQuick))
    parts.push('**From a quick run, which only shows that cases run: no figure here means anything.**');
  for (const [group, title] of Object.entries(titles)) {
    const own = results.filter(({ name }) => groupOf(name) === group);
    const note = sections.get(group) ?? '';
    if (own.length === 0) continue;
    const shown = pictures.filter((file) => file.startsWith(`performance-${group}-`));
    parts.push(
      `## ${title}`,
      ...(group === 'grow'
        ? own.flatMap(growthText)
        : [caseTable(own), ...own.flatMap(restText), ...generationText(own), rivalTables(own)]),
      shown.map((file) => `<img src="${file}" width="400" alt="${file.slice('performance-'.length, -'.svg'.length)}">`).join('\n'),
      note,
    );
  }
  const lost = losses(results);
  parts.push('## Where we lose', lost.length > 0 ? lost.join('\n') : 'No ratio below 1 or its line, no line missed.');
  for (const [heading, text] of sections) if (heading !== '' && !(heading in titles)) parts.push(`## ${heading}`, text);
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}
