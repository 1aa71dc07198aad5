// What several pages have in common: numbers in words, tables, the loss curves of a training, cards with pictures.
import { type Band, lineChart } from './charts.js';
import { dataUri, escapeHtml } from './html.js';

/** Losses of each recorded step. */
export interface Curves {
  step: ArrayLike<number>;
  inter: ArrayLike<number>;
  intra: ArrayLike<number>;
  /** `range` is the largest |alpha_x - alpha_y| of a curriculum stage. */
  stages: readonly { fromStep: number; range: number }[];
  /** The InfoNCE of guessing. */
  chanceInter: number;
}

/** The parts of the x axis that are stages of the curriculum. */
export const stageBands = ({ stages }: Pick<Curves, 'stages'>): Band[] =>
  stages.map(({ fromStep, range }) => ({ from: fromStep, label: `≤ ${decimal(range, 1)}` }));

/** The section of the two losses. */
export function lossCurves(curves: Curves): string {
  const { step, inter, intra, chanceInter } = curves;
  const bands = stageBands(curves);
  const ends = step.length > 0 ? [step[0]!, step[step.length - 1]!] : [];
  const people = lineChart(
    [
      { name: 'loss', x: step, y: inter },
      { name: 'guessing', x: ends, y: ends.map(() => chanceInter), dashed: true },
    ],
    { title: 'Telling people apart: loss over training steps', xLabel: 'training step', yLabel: 'InfoNCE loss' },
    { smooth: 0.05, bands },
  );
  const change = lineChart(
    [{ name: 'loss', x: step, y: intra }],
    { title: 'Measuring change: loss over training steps', xLabel: 'training step', yLabel: 'squared error' },
    { smooth: 0.05, bands },
  );
  return `<section><h2>Training</h2><p>Lower is better. The shaded bands are the stages of the curriculum; the number at the top is the largest change between two pictures of a pair
in that stage. As the changes shrink, the squared error shrinks with them, so compare it within a stage.</p>
<div class="columns"><figure>${people}<figcaption>Telling people apart. The dashed line is the loss of guessing.</figcaption></figure>
<figure>${change}<figcaption>Measuring the change between two pictures of one person.</figcaption></figure></div></section>`;
}

/** A table of names and values. */
export function factsTable(rows: readonly (readonly [label: string, value: string])[]): string {
  const lines = rows.map(([label, value]) => `<tr><th scope="row">${escapeHtml(label)}</th><td>${escapeHtml(value)}</td></tr>`);
  return `<table><tbody>${lines.join('')}</tbody></table>`;
}

/** A table of numbers: its first column names the rows. Cells are escaped. */
export function numbersTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = heads.map((text, i) => `<th scope="col"${i === 0 ? '' : ' class="number"'}>${escapeHtml(text)}</th>`);
  const lines = rows.map(([first = '', ...cells]) => {
    const numbers = cells.map((text) => `<td class="number">${escapeHtml(text)}</td>`);
    return `<tr><th scope="row">${escapeHtml(first)}</th>${numbers.join('')}</tr>`;
  });
  return `<table class="numbers"><thead><tr>${head.join('')}</tr></thead><tbody>${lines.join('')}</tbody></table>`;
}

/**
 * A card: rows of two pictures each, and words under them.
 * @param rows JPEG files with what they show.
 * @param words HTML, already escaped.
 */
export function card(rows: readonly (readonly { jpeg: Uint8Array; alt: string }[])[], words: readonly string[]): string {
  const lines = rows.map(
    (row) => `<div>${row.map(({ jpeg, alt }) => `<img src="${dataUri(jpeg)}" alt="${escapeHtml(alt)}">`).join('')}</div>`,
  );
  return `<figure class="pair">${lines.join('')}\n<figcaption>${words.map((text) => `<span>${text}</span>`).join('')}</figcaption></figure>`;
}

/** True and estimated change as words of a card. */
export const changeWords = (truth: number, estimate: number): string[] => [
  `true <strong>${signed(truth, 1)}</strong>`,
  `estimated <strong>${signed(estimate, 1)}</strong>`,
];

/** With more digits before the point than that, a number would run out of its column. */
const kLargest = 1e9;

/** At most `digits` after the point. */
export function decimal(value: number, digits?: number): string {
  if (!Number.isFinite(value)) return 'none';
  if (Math.abs(value) >= kLargest) return value.toExponential(2);
  return digits === undefined ? String(value) : digits === 1 && Number.isInteger(value) ? String(value) : value.toFixed(digits);
}

/** With its sign, but for zero. */
export function signed(value: number, digits: number): string {
  if (!Number.isFinite(value)) return 'none';
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : `${value < 0 ? '−' : '+'}${text}`;
}

/** Seconds in words. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'none';
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(Math.round(seconds) / 60)} min ${Math.round(seconds) % 60} s`;
}
