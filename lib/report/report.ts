// The page that `comface demo` leaves behind: one file that a reader can judge the run by, with the pictures inside.
// Everything in it comes from `DemoReport`; the words explain and claim nothing that the numbers do not show.
import { barChart, scatterChart } from './charts.js';
import { escapeHtml, htmlPage } from './html.js';
import { type Curves, card, changeWords, decimal, duration, factsTable, lossCurves, signed } from './parts.js';

/** One downstream task of the demo. */
export interface DemoTask {
  name: string;
  /** Unit of the change, say "steps of alpha". */
  unit: string;
  /** ComFace first, then its rivals; means over the test folds. */
  rows: { method: string; mae: number; correlation: number }[];
  /** Changes of the test pairs and ComFace's estimates. */
  scatter: { truth: ArrayLike<number>; estimate: ArrayLike<number> };
  /** A few test pairs to look at: JPEG files, the true change and ComFace's estimate. */
  pairs: { x: Uint8Array; y: Uint8Array; truth: number; estimate: number }[];
}

/** What a demo run measured. */
export interface DemoReport {
  title: string;
  commit?: string;
  machine: { cpu: string; cores: number; node: string };
  settings: readonly (readonly [label: string, value: string])[];
  /** Wall-clock seconds of each part. */
  seconds: { generate: number; train: number; evaluate: number; total: number };
  curves: Curves;
  tasks: DemoTask[];
  /** Correlation by which ComFace has to lead the best rival on each task, and by which it does. */
  target: { required: number; margins: readonly (readonly [task: string, margin: number])[] };
}

/**
 * The report of a demo run as one self-contained HTML page without scripts; every text in it is escaped.
 * @param data What the run measured.
 */
export function demoReport(data: DemoReport): string {
  const sections = [header(data), verdict(data), idea(), ...data.tasks.map(task), lossCurves(data.curves), run(data), limits()];
  return htmlPage(data.title, sections.join('\n'));
}

function header({ title, commit, machine, seconds }: DemoReport): string {
  const made = `${duration(seconds.total)} on ${machine.cpu}, ${machine.cores} ${machine.cores === 1 ? 'core' : 'cores'}`;
  const at = commit === undefined ? '' : `, at commit ${commit}`;
  return `<header><h1>${escapeHtml(title)}</h1><p class="soft">${escapeHtml(`Made in ${made}${at}.`)}</p></header>`;
}

function verdict({ target: { required, margins } }: DemoReport): string {
  const reached = margins.filter(([, margin]) => margin >= required).length;
  const all = margins.length > 0 && reached === margins.length;
  const outcome = all ? '<span class="good">Target reached.</span>' : '<strong>Target not reached.</strong>';
  const asked = `ComFace should lead the best other method by ${decimal(required)} in correlation; it does on ${reached} of ${margins.length} tasks.`;
  const lines = margins.map(([name, margin]) => `<p>${escapeHtml(name)}: <strong>${signed(margin, 3)}</strong></p>`);
  return `<section class="verdict"><p>${outcome} ${asked}</p>${lines.join('')}</section>`;
}

function idea(): string {
  return `<section><h2>What ComFace does</h2>
<p>ComFace looks at two pictures of the same person and estimates how much the face has changed between them, and in which direction. It learns this
without labels made by people: faces are drawn by a program that knows exactly how far it turned each attribute. While training, the network
learns two things at once: to tell people apart, and to say how far apart two pictures of one person are. Small changes are harder than large ones, so
training begins with large ones.</p>
<p>Then the network is frozen, and one linear layer is trained on its output for each task below. The people tested are never among those trained on.
Every other method is given the same pairs and, if it has features, the same linear layer; its best weights are computed, not searched for.</p></section>`;
}

function task({ name, unit, rows, scatter, pairs }: DemoTask): string {
  const pictures = pairs.map(({ x, y, truth, estimate }) =>
    card(
      [
        [
          { jpeg: x, alt: 'first picture' },
          { jpeg: y, alt: 'second picture' },
        ],
      ],
      changeWords(truth, estimate),
    ),
  );
  const shown = `<p>Each card has two pictures of a person whom neither the network nor the linear layer was trained on, taken by another camera under other light, with the true change from the left to the right picture and ComFace's estimate, in ${escapeHtml(unit)}.</p>
<div class="pairs">${pictures.join('\n')}</div>`;
  const cloud = scatterChart(scatter.truth, scatter.estimate, {
    title: `${name}: estimated against true change`,
    xLabel: `true change (${unit})`,
    yLabel: 'estimated',
  });
  const bars = barChart(
    rows.map(({ method, correlation }) => ({ name: method, value: correlation })),
    { title: `${name}: correlation of each method`, xLabel: 'correlation (1 is perfect, 0 is none)' },
  );
  return `<section><h2>${escapeHtml(name)}</h2>${pairs.length > 0 ? shown : ''}
<h3>Against other methods</h3>${table(rows, unit)}
<div class="columns"><figure>${bars}<figcaption>How closely the estimates rise and fall with the true changes.</figcaption></figure>
<figure>${cloud}<figcaption>Each dot is a test pair; on the dashed line the estimate is right.</figcaption></figure></div></section>`;
}

function table(rows: DemoTask['rows'], unit: string): string {
  const best = {
    mae: extreme(
      Math.min,
      rows.map((row) => row.mae),
    ),
    correlation: extreme(
      Math.max,
      rows.map((row) => row.correlation),
    ),
  };
  const cell = (value: number, winner: number): string =>
    `<td class="number">${value === winner ? `<strong>${decimal(value, 3)}</strong>` : decimal(value, 3)}</td>`;
  const lines = rows.map(
    ({ method, mae, correlation }) =>
      `<tr><th scope="row">${escapeHtml(method)}</th>${cell(mae, best.mae)}${cell(correlation, best.correlation)}</tr>`,
  );
  return `<table><thead><tr><th scope="col">Method</th><th scope="col" class="number">Mean error</th><th scope="col" class="number">Correlation</th></tr></thead>
<tbody>${lines.join('')}</tbody></table>
<p class="soft">Means over the test folds. Mean error is the mean absolute error in ${escapeHtml(unit)} (lower is better); correlation is Pearson's (higher is better). The best is bold.</p>`;
}

function run({ settings, seconds, machine }: DemoReport): string {
  const rows: (readonly [string, string])[] = [
    ...settings,
    ['Drawing faces', duration(seconds.generate)],
    ['Training', duration(seconds.train)],
    ['Evaluation', duration(seconds.evaluate)],
    ['Whole run', duration(seconds.total)],
    ['Machine', `${machine.cpu}, ${machine.cores} ${machine.cores === 1 ? 'core' : 'cores'}, Node.js ${machine.node}`],
  ];
  return `<section><h2>This run</h2>${factsTable(rows)}</section>`;
}

function limits(): string {
  return `<section><h2>What this does not show</h2><ul>
<li>The faces are drawn by a program. They are not photographs, and nothing here says how well the method works on real people.</li>
<li>The demo is small: a small network, small pictures and a short training. The paper trained a ResNet-50 on 35 million pictures.</li>
<li>The changes are those the program can draw, with exact labels. Real changes are subtler, mixed, and measured with error.</li>
<li>It is one run with one seed. Differences of a few hundredths in correlation may turn out otherwise with another.</li>
<li>This is no medical device, and none of its numbers is a diagnosis.</li></ul></section>`;
}

/** The smallest or largest finite value; NaN, which equals nothing, where there is none. */
function extreme(pick: (...values: number[]) => number, values: number[]): number {
  const finite = values.filter(Number.isFinite);
  return finite.length > 0 ? pick(...finite) : Number.NaN;
}
