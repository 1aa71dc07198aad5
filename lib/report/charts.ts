// Charts as inline SVG text: no script, no fonts, readable at the width of a phone and on paper.
// Colors differ in lightness and come from the page's --series-N where it has them; values that are not finite are left out, never drawn.
import { escapeHtml } from './html.js';

/** What every chart has. */
export interface ChartText {
  /** Read aloud in place of the picture. */
  title: string;
  xLabel: string;
  yLabel: string;
}

export interface LineSeries {
  name: string;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  /** A reference, drawn dashed and thin. @default false */
  dashed?: boolean;
}

/** A span of the x axis with a label, from here to the next band. */
export interface Band {
  from: number;
  label: string;
}

const width = 400;
const height = 260;
const frame = { left: 58, right: 390, top: 30, bottom: 214 };
const colors = ['#134b7f', '#d9772b', '#8ab6a3', '#8c2f5b'];
const ink = 'fill="currentColor"';
/** More points than this are averaged in runs: a page of 400 units cannot show them and would only grow. */
const mostPoints = 300;

interface Axis {
  low: number;
  high: number;
  step: number;
  ticks: number[];
  place(value: number): number;
}

/**
 * Lines over a common x axis.
 * @param options.smooth Share of the points, 0 to 1, averaged around each, within its band (the plain line stays, faint). @default 0
 * @param options.bands Parts of the x axis, shaded in turn.
 */
export function lineChart(
  series: readonly LineSeries[],
  text: ChartText,
  options: { smooth?: number; bands?: readonly Band[] } = {},
): string {
  const drawn = series.map((one) => ({ ...one, points: thin(finitePoints(one.x, one.y)) }));
  const all = drawn.flatMap((one) => one.points);
  const x = axis(
    all.map(([value]) => value),
    frame.left,
    frame.right,
    true,
  );
  const y = axis(
    all.map(([, value]) => value),
    frame.bottom,
    frame.top,
  );
  const lines = drawn.map(({ points, dashed }, i) => {
    if (dashed) return path(points, x, y, `stroke="currentColor" stroke-width="1.2" stroke-dasharray="5 4"`);
    const span = Math.floor(((options.smooth ?? 0) * points.length) / 2);
    const stroke = `stroke="${color(i)}"`;
    if (span === 0) return path(points, x, y, `${stroke} stroke-width="2.2"`);
    return (
      path(points, x, y, `${stroke} stroke-opacity=".3"`) +
      path(smoothed(points, span, options.bands ?? []), x, y, `${stroke} stroke-width="2.4"`)
    );
  });
  const marks = drawn.map(({ name, dashed }, i) => ({
    name,
    mark: dashed ? 'stroke="currentColor" stroke-dasharray="5 4"' : `stroke="${color(i)}" stroke-width="3"`,
  }));
  return svg(
    height,
    text.title,
    bands(options.bands ?? [], x) + axes(x, y, text) + lines.join('') + legend(marks) + (all.length === 0 ? nothing : ''),
  );
}

/** Estimated against true values on equal axes, with the line where both are the same. At most 800 points, evenly picked, are drawn. */
export function scatterChart(truth: ArrayLike<number>, estimate: ArrayLike<number>, text: ChartText): string {
  const points = finitePoints(truth, estimate);
  const every = Math.ceil(points.length / 800);
  const picked = points.filter((_, i) => i % every === 0);
  const both = picked.flat();
  const x = axis(both, frame.left, frame.right);
  const y = axis(both, frame.bottom, frame.top);
  const dots = picked.map(([t, e]) => `<circle cx="${at(x.place(t))}" cy="${at(y.place(e))}" r="2.2"/>`).join('');
  const ends: Point[] = [
    [x.low, x.low],
    [x.high, x.high],
  ];
  const same = path(ends, x, y, 'stroke="currentColor" stroke-width="1.4" stroke-dasharray="5 4"');
  const marks = [{ name: 'estimate = truth', mark: 'stroke="currentColor" stroke-dasharray="5 4"' }];
  const cloud = `<g fill="${color(0)}" fill-opacity=".45">${dots}</g>`;
  return svg(height, text.title, axes(x, y, text) + cloud + same + legend(marks) + (picked.length === 0 ? nothing : ''));
}

/** One horizontal bar a row, from zero, with its number; the first row has the strong color. */
export function barChart(bars: readonly { name: string; value: number }[], text: { title: string; xLabel: string }): string {
  const rowHeight = 44;
  const bottom = 8 + Math.max(1, bars.length) * rowHeight;
  const x = axis([0, ...bars.map(({ value }) => value).filter(drawable)], 14, width - 52);
  const rows = bars.map(({ name, value }, i) => {
    const top = 8 + i * rowHeight;
    const label = `<text x="18" y="${top + 13}" ${ink}>${escapeHtml(short(name, 48))}</text>`;
    const [from, to] = [x.place(0), x.place(drawable(value) ? value : 0)];
    const bar = `<rect x="${at(Math.min(from, to))}" y="${top + 18}" width="${at(Math.abs(to - from))}" height="16" fill="${color(i === 0 ? 0 : 2)}"/>`;
    const number = drawable(value) ? value.toFixed(3) : 'none';
    return `${label}${bar}<text x="${at(Math.max(from, to) + 5)}" y="${top + 31}" ${ink}>${number}</text>`;
  });
  const grid = x.ticks.map((tick) => {
    const here = at(x.place(tick));
    return `<path d="M${here} 8V${bottom}" stroke="currentColor" stroke-opacity="${tick === 0 ? 0.7 : 0.12}"/><text x="${here}" y="${bottom + 15}" text-anchor="middle" ${ink}>${tickText(tick, x)}</text>`;
  });
  const label = `<text x="${width / 2}" y="${bottom + 35}" text-anchor="middle" ${ink}>${escapeHtml(text.xLabel)}</text>`;
  return svg(bottom + 44, text.title, grid.join('') + rows.join('') + label);
}

const nothing = `<text x="${(frame.left + frame.right) / 2}" y="${(frame.top + frame.bottom) / 2}" text-anchor="middle" ${ink}>no data</text>`;

function svg(tall: number, title: string, content: string): string {
  const name = escapeHtml(title);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${tall}" width="100%" role="img" aria-label="${name}" font-family="system-ui, sans-serif" font-size="13"><title>${name}</title>${content}</svg>`;
}

/**
 * Round ticks, 1, 2 or 5 times a power of ten apart; a single value or none gets room on both sides.
 * @param tight End at the values and not at the next tick. @default false
 */
function axis(values: readonly number[], from: number, to: number, tight = false): Axis {
  let low = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  let high = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (values.length === 0) [low, high] = [0, 1];
  const size = Math.max(Math.abs(low), Math.abs(high));
  // Also where the values are so close that the steps between them would be lost to rounding.
  if (!(high - low > Math.max(1e-9 * size, 1e-300))) {
    const room = size > 1e-300 ? size / 2 : 0.5;
    [low, high] = [low - room, high + room];
  }
  const rough = (high - low) / (tight ? 5 : 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((n) => n * power >= rough * 0.999) ?? 10);
  const [first, last] = tight ? [Math.ceil(low / step), Math.floor(high / step)] : [Math.floor(low / step), Math.ceil(high / step)];
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  if (!tight) [low, high] = [first * step, last * step];
  return { low, high, step, ticks, place: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

function axes(x: Axis, y: Axis, text: ChartText): string {
  const { left, right, top, bottom } = frame;
  const across = y.ticks.map((tick) => {
    const here = at(y.place(tick));
    const line = `<path d="M${left} ${here}H${right}" stroke="currentColor" stroke-opacity=".14"/>`;
    return `${line}<text x="${left - 6}" y="${at(y.place(tick) + 4.5)}" text-anchor="end" ${ink}>${tickText(tick, y)}</text>`;
  });
  const along = x.ticks.map((tick) => {
    const here = x.place(tick);
    // A label at the very end would run out of the picture.
    const [anchor, from] = here > right - 12 ? ['end', right + 8] : ['middle', here];
    const label = `<text x="${at(from)}" y="${bottom + 18}" text-anchor="${anchor}" ${ink}>${tickText(tick, x)}</text>`;
    return `<path d="M${at(here)} ${bottom}v4" stroke="currentColor"/>${label}`;
  });
  const middle = (top + bottom) / 2;
  const labels =
    `<text x="${(left + right) / 2}" y="${bottom + 38}" text-anchor="middle" ${ink}>${escapeHtml(text.xLabel)}</text>` +
    `<text x="12" y="${middle}" text-anchor="middle" transform="rotate(-90 12 ${middle})" ${ink}>${escapeHtml(text.yLabel)}</text>`;
  return `${across.join('')}<path d="M${left} ${bottom}H${right}" stroke="currentColor"/>${along.join('')}${labels}`;
}

function bands(list: readonly Band[], x: Axis): string {
  const shown = list.filter(({ from }) => drawable(from) && from < x.high);
  return shown
    .map(({ from, label }, i) => {
      const start = x.place(Math.max(from, x.low));
      const end = x.place(Math.min(Math.max(shown[i + 1]?.from ?? x.high, x.low), x.high));
      const shade = `<rect x="${at(start)}" y="${frame.top}" width="${at(Math.max(0, end - start))}" height="${frame.bottom - frame.top}" ${ink} fill-opacity="${i % 2 ? 0.09 : 0.03}"/>`;
      // A band too narrow for its words goes without.
      const room = Math.floor((end - start) / 7);
      return room < label.length
        ? shade
        : `${shade}<text x="${at((start + end) / 2)}" y="${frame.top + 14}" text-anchor="middle" fill-opacity=".75" ${ink}>${escapeHtml(label)}</text>`;
    })
    .join('');
}

function legend(entries: readonly { name: string; mark: string }[]): string {
  const each = (frame.right - frame.left) / Math.max(1, entries.length);
  return entries
    .map(({ name, mark }, i) => {
      const from = frame.left + i * each;
      return `<path d="M${at(from)} 14h20" ${mark}/><text x="${at(from + 26)}" y="18.5" ${ink}>${escapeHtml(short(name, Math.floor((each - 30) / 6.6)))}</text>`;
    })
    .join('');
}

type Point = readonly [number, number];

function finitePoints(x: ArrayLike<number>, y: ArrayLike<number>): Point[] {
  return Array.from({ length: Math.min(x.length, y.length) }, (_, i): Point => [x[i]!, y[i]!]).filter(
    ([a, b]) => drawable(a) && drawable(b),
  );
}

/** Finite, and so far from the largest number that a distance is finite too. */
function drawable(value: number): boolean {
  return Math.abs(value) < 1e300;
}

/** Averages runs of neighbors so that at most `mostPoints` are left. */
function thin(points: Point[]): Point[] {
  const run = Math.ceil(points.length / mostPoints);
  if (run <= 1) return points;
  return Array.from({ length: Math.ceil(points.length / run) }, (_, i) => average(points.slice(i * run, (i + 1) * run)));
}

/** The mean height of up to `span` neighbors on each side; a band does not look into the next, whose level is another. */
function smoothed(points: Point[], span: number, list: readonly Band[]): Point[] {
  const part = points.map(([x]) => list.findLastIndex(({ from }) => from <= x));
  return points.map(([x], i) => {
    const near = points.filter((_, j) => Math.abs(i - j) <= span && part[j] === part[i]);
    return [x, average(near)[1]];
  });
}

function average(points: readonly Point[]): Point {
  return points.reduce<Point>(([x, y], [a, b]) => [x + a / points.length, y + b / points.length], [0, 0]);
}

function path(points: readonly Point[], x: Axis, y: Axis, look: string): string {
  if (points.length === 0) return '';
  const d = points.map(([a, b], i) => `${i === 0 ? 'M' : 'L'}${at(x.place(a))} ${at(y.place(b))}`).join('');
  // A lone point is a line of no length; round caps make it a dot.
  return `<path d="${points.length === 1 ? `${d}h0` : d}" fill="none" stroke-linejoin="round" stroke-linecap="round" ${look}/>`;
}

/** A coordinate with one digit after the point. */
function at(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function tickText(tick: number, { low, high, step }: Axis): string {
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (size >= 1e6 || size < 1e-3) return tick === 0 ? '0' : tick.toExponential(1);
  // Not -0, and no more digits than the step has.
  return (tick + 0)
    .toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))
    .replace(/^-(?=0(\.0+)?$)/, '')
    .replace('-', '−');
}

function short(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text;
}

function color(index: number): string {
  const i = index % colors.length;
  return `var(--series-${i}, ${colors[i]})`;
}
