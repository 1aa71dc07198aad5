// The pages of a pre-training run and of a transfer. They hold no picture and no name of a person unless `faces` are asked for: texts that may hold a
// path or a name are left out and counted. Everything is escaped.

import type { TransferResult, TransferScore } from '../transfer/result.js';
import { lineChart, scatterChart } from './charts.js';
import { escapeHtml, htmlPage } from './html.js';
import type { DrawnLook, Look } from './looks.js';
import { card, changeWords, decimal, duration, factsTable, lossCurves, numbersTable, stageBands } from './parts.js';
import type { RunFacts } from './run.js';

/** A tested pair of the user's pictures. */
export interface ShownPair {
  x: Look;
  y: Look;
  /** As the page may name it. */
  subject: string;
  truth: number;
  estimate: number;
}

/** What a page shows beside the numbers. */
export interface Shown {
  /** Where the page is of; shown with faces. */
  folder: string;
  /** On drawn faces; or why there are none. */
  looks: readonly DrawnLook[] | string;
  /** Of real pictures; undefined: left out, as nobody asked for them. A text says why there are none. */
  pairs: readonly ShownPair[] | string | undefined;
}

/** The page of a pre-training run. */
export function runPage(run: RunFacts, shown: Shown): string {
  const sections = [
    runHead(run, shown),
    lossCurves(run.curves),
    validation(run),
    looks(shown),
    realPictures(shown, 'validated'),
    runSettings(run, shown),
  ];
  return htmlPage('ComFace: a pre-training run', sections.concat(notes(run.warnings, shown)).join('\n'));
}

/** The page of a transfer. @param training The run that its model came from, or why it is not shown. */
export function transferPage(result: TransferResult, training: RunFacts | string, shown: Shown): string {
  const sections = [
    transferHead(result, shown),
    scores(result),
    folds(result),
    search(result),
    looks(shown),
    realPictures(shown, 'tested'),
    typeof training === 'string' ? `<section><h2>Training</h2><p>${escapeHtml(training)}</p></section>` : lossCurves(training.curves),
    transferSettings(result, shown),
    ...notes(result.warnings, shown),
  ];
  return htmlPage(`ComFace: transfer to ${result.attribute}`, sections.join('\n'));
}

// ---- a run ----

function runHead({ curves, steps, validations, broken, seconds, isLocked, start, config }: RunFacts, { folder, pairs }: Shown): string {
  const last = curves.step[curves.step.length - 1]!;
  const best = validations.reduce<RunFacts['validations'][number] | undefined>(
    (a, b) => (a && !(b.correlation > a.correlation) ? a : b),
    undefined,
  );
  const end = isLocked
    ? 'It is still running, or was killed: this page shows what it has logged.'
    : 'It was stopped before its end: --resume goes on with it.';
  const lines = [
    seconds === undefined ? `<strong>Not finished.</strong> ${escapeHtml(end)}` : '<span class="good">Finished.</span>',
    `${decimal(last)} of ${decimal(steps)} steps; the last losses: telling people apart <strong>${decimal(curves.inter[curves.inter.length - 1]!, 3)}</strong> (guessing ${decimal(curves.chanceInter, 3)}), measuring change <strong>${decimal(curves.intra[curves.intra.length - 1]!, 3)}</strong>.`,
    best === undefined
      ? 'No subjects were kept out to validate on.'
      : `On subjects kept out, best after epoch ${decimal(best.epoch)}: mean error <strong>${decimal(best.mae, 3)}</strong> steps of alpha, correlation <strong>${decimal(best.correlation, 3)}</strong>.`,
    ...(broken.length > 0 ? [`${broken.length} pictures could not be used.`] : []),
  ];
  const made = [
    words(start.pictures, 'pictures'),
    words(start.subjects, 'subjects'),
    words(config.backbone, ''),
    words(config.size, 'pixels'),
  ];
  const where = pairs === undefined ? '' : ` ${folder}`;
  return `<header><h1>A pre-training run</h1><p class="soft">${escapeHtml(made.filter(Boolean).join(', ') + where)}</p></header>
<section class="verdict">${lines.map((line) => `<p>${line}</p>`).join('')}</section>`;
}

const words = (value: unknown, unit: string): string =>
  typeof value === 'number' || typeof value === 'string' ? `${String(value).slice(0, 80)} ${unit}`.trim() : '';

function validation({ validations, curves }: RunFacts): string {
  if (validations.length === 0) return '';
  const epoch = validations.map((one) => one.epoch);
  const chart = (name: string, y: number[]) =>
    lineChart([{ name, x: epoch, y }], { title: `Subjects kept out: ${name} over epochs`, xLabel: 'epoch', yLabel: name });
  const errors = chart(
    'mean error',
    validations.map(({ mae }) => mae),
  );
  const correlations = chart(
    'correlation',
    validations.map(({ correlation }) => correlation),
  );
  const { pairs } = validations.at(-1)!;
  const stages = stageBands(curves).length > 1 ? ' The pairs are the same in every stage of the curriculum.' : '';
  return `<section><h2>On subjects kept out</h2><p>${decimal(pairs)} pairs of people whom the network is not trained on, after each epoch.${stages}</p>
<div class="columns"><figure>${errors}<figcaption>Mean absolute error in steps of alpha; lower is better.</figcaption></figure>
<figure>${correlations}<figcaption>Pearson's correlation with the true change; higher is better.</figcaption></figure></div></section>`;
}

function runSettings({ config, start, seconds, broken }: RunFacts, shown: Shown): string {
  const facts: [string, string][] = [
    ...settingRows({ engine: start.engine, 'ran on': start.device, 'number type': start.precision, parameters: start.parameters }, shown),
    ...(seconds === undefined ? [] : [['last part took', duration(seconds)] as [string, string]]),
    ...settingRows(config, shown),
  ];
  const reasons = shown.pairs === undefined ? [] : broken.slice(0, kMostNotes).map(({ file, reason }) => [file, reason] as const);
  const withheld =
    shown.pairs === undefined ? `<p class="soft">Which pictures these are stands in the run's log.jsonl.</p>` : factsTable(reasons);
  const lost = broken.length === 0 ? '' : `<h3>Pictures that could not be used: ${broken.length}</h3>${withheld}`;
  return `<section><h2>Settings</h2>${factsTable(facts)}${lost}</section>`;
}

// ---- a transfer ----

const evaluations = {
  linear: 'A linear layer on the frozen network (linear evaluation).',
  fineTune: 'The whole network, trained on (fine-tuning).',
  patient: 'A linear layer for each person, from that person’s own pictures (patient-specific).',
};

function transferHead(
  { attribute, unit, evaluation, data, test, model, scores: { mae, correlation }, made, seconds }: TransferResult,
  shown: Shown,
): string {
  const set = ({ pictures, subjects, folder }: TransferResult['data']) =>
    `${pictures} pictures of ${subjects} people${shown.pairs === undefined ? '' : ` in ${folder}`}`;
  const from = model.folder === null ? 'random weights' : shown.pairs === undefined ? 'a pre-training' : model.folder;
  const facts: [string, string][] = [
    ['Evaluation', evaluations[evaluation]],
    ['Network', `${model.backbone}, ${model.size} x ${model.size} pixels, from ${from}`],
    ['Learned from', set(data)],
    ['Tested on', test ? set(test) : 'people of the same set, each in one fold'],
    ['Took', duration(seconds)],
    ['Made', made],
  ];
  return `<header><h1>Transfer to ${escapeHtml(attribute)}</h1></header>
<section class="verdict"><p>Mean error <strong>${interval(mae)}</strong> ${escapeHtml(unit)}, correlation <strong>${interval(correlation)}</strong>.</p></section>
<section>${factsTable(facts)}</section>`;
}

const finite = (value: number | null | undefined): number => value ?? Number.NaN;
const interval = ({ value, low, high }: TransferScore): string =>
  `${decimal(finite(value), 3)} (${decimal(finite(low), 3)} to ${decimal(finite(high), 3)})`;

function scores({ scores: { mae, correlation, accuracy }, unit, folds: { length } }: TransferResult): string {
  const row = (name: string, score: TransferScore) => [
    name,
    decimal(finite(score.value), 3),
    `${decimal(finite(score.low), 3)} to ${decimal(finite(score.high), 3)}`,
  ];
  const rows = [row(`Mean error (${unit})`, mae), row('Correlation', correlation), row('Right direction (share)', accuracy)];
  return `<section><h2>Scores</h2>${numbersTable(['', length > 1 ? 'Mean of folds' : 'Value', '95 % interval'], rows)}
<p class="soft">Mean error is the mean absolute error (lower is better), correlation Pearson's, right direction the share of pairs with a change whose sign is right. The
interval is of a bootstrap over people: what other people might have given, with the same model.</p></section>`;
}

const allChoices = [
  ['Rate', 'learningRate'],
  ['Penalty', 'penalty'],
  ['Steps', 'steps'],
] as const;

/** One chart a fold, so many at most. */
const kMostCharts = 12;

function folds({ folds: list, pairs, unit }: TransferResult): string {
  const number = (value: number | null | undefined) => decimal(finite(value), 3);
  const choices = allChoices.filter(([, key]) => list.some((fold) => fold[key] !== undefined));
  const results = list.map((fold, i) => [
    `Fold ${i + 1}`,
    String(fold.pairs),
    number(fold.mae),
    number(fold.correlation),
    number(fold.accuracy),
  ]);
  const people = list.map(({ trainSubjects, validationSubjects, testSubjects }, i) => [
    `Fold ${i + 1}`,
    ...[trainSubjects, validationSubjects, testSubjects].map(String),
    ...choices.map(([, key]) => shortly(finite(list[i]![key]))),
  ]);
  const clouds = list.slice(0, kMostCharts).map((_, i) => {
    const rows = pairs.fold.flatMap((fold, row) => (fold === i ? [row] : []));
    const at = (values: readonly number[]) => rows.map((row) => values[row]!);
    const text = { title: `Fold ${i + 1}: estimated against true change`, xLabel: `true change (${unit})`, yLabel: 'estimated' };
    return `<figure>${scatterChart(at(pairs.truth), at(pairs.estimate), text)}<figcaption>Fold ${i + 1}</figcaption></figure>`;
  });
  const more = list.length > kMostCharts ? `<p class="soft">The first ${kMostCharts} of ${list.length} folds.</p>` : '';
  return `<section><h2>Folds</h2>${numbersTable(['', 'Pairs', 'Mean error', 'Correlation', 'Direction'], results)}
<h3>People, and what was chosen on those held out</h3>${numbersTable(['', 'Trained', 'Held out', 'Tested', ...choices.map(([name]) => name)], people)}
<h3>Estimated against true change</h3><p>Each dot is a tested pair; on the dashed line the estimate is right.</p>
<div class="columns">${clouds.join('\n')}</div>${more}</section>`;
}

const shortly = (value: number): string => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : 'none');

function search({ folds: list }: TransferResult): string {
  const rows = list.flatMap(({ tried = [], learningRate }, i) =>
    tried.map((one) => [
      `Fold ${i + 1}: ${shortly(one.learningRate)}${one.learningRate === learningRate ? ', chosen' : ''}`,
      one.validationError === null ? 'diverged' : decimal(one.validationError, 3),
      String(one.steps),
    ]),
  );
  if (rows.length === 0) return '';
  const shown = rows.slice(0, kMostNotes);
  const more = rows.length > shown.length ? `<p class="soft">The first ${shown.length} of ${rows.length}.</p>` : '';
  return `<section><h2>Learning rates that were tried</h2>${numbersTable(['Rate', 'Mean squared error on validation', 'Steps'], shown)}${more}</section>`;
}

function transferSettings({ settings }: TransferResult, shown: Shown): string {
  const rows = settingRows(settings, shown);
  return rows.length === 0 ? '' : `<section><h2>Settings</h2>${factsTable(rows)}</section>`;
}

// ---- both ----

function looks({ looks: found }: Shown): string {
  const about = `<p>Where the network looks (Eigen-CAM of its last block): from blue, the least of a picture, to red, the most. The map is of the picture as a whole, not of an answer.</p>`;
  if (typeof found === 'string') return `<section><h2>Where it looks</h2><p>${escapeHtml(found)}</p></section>`;
  const cards = found.map(({ picture, overlay, person, attribute, alpha }) =>
    card(
      [
        [
          { jpeg: picture, alt: 'drawn face' },
          { jpeg: overlay, alt: 'the same under its map' },
        ],
      ],
      [`drawn person ${person}`, `${escapeHtml(attribute)} ${alpha > 0 ? '+' : ''}${String(alpha).replace('-', '−')}`],
    ),
  );
  return `<section><h2>Where it looks</h2>${about}<p class="soft">These faces are drawn: nobody is shown. A person's pictures have one pose and light, so that only ${escapeHtml(found[0]!.attribute)} changes.</p>
<div class="pairs large">${cards.join('\n')}</div></section>`;
}

function realPictures({ pairs }: Shown, how: 'tested' | 'validated'): string {
  const heading = '<h2>On your pictures</h2>';
  if (pairs === undefined)
    return `<section>${heading}<p>Pictures of people, and their names, are left out of this page. To see some of the pairs it was ${how} on, with true and estimated change, make it
again with <code>--include-faces</code>; then give it only to those who may see them.</p></section>`;
  if (typeof pairs === 'string') return `<section>${heading}<p>${escapeHtml(pairs)}</p></section>`;
  const cards = pairs.map(({ x, y, subject, truth, estimate }) =>
    card(
      [
        [
          { jpeg: x.picture, alt: 'first picture' },
          { jpeg: y.picture, alt: 'second picture' },
        ],
        [
          { jpeg: x.overlay, alt: 'where the network looks in the first' },
          { jpeg: y.overlay, alt: 'where the network looks in the second' },
        ],
      ],
      [...changeWords(truth, estimate), escapeHtml(subject)],
    ),
  );
  return `<section>${heading}<p><strong>This page shows people.</strong> The network was ${how} on these pairs, among others: one from each eighth of the true changes, none chosen by its estimate. Below each picture is where it looks.</p>
<div class="pairs">${cards.join('\n')}</div></section>`;
}

const kMostNotes = 100;
const kMostSettings = 200;
const kMostText = 300;

/** Whether a text may hold a path, or a name that somebody quoted. */
const isTelling = (text: string): boolean => /[/\\"'`“”]/.test(text);

/** A warning is free text: it may name anybody. */
function notes(all: readonly string[], { pairs }: Shown): string[] {
  if (all.length === 0) return [];
  const told = pairs === undefined ? [] : all.slice(0, kMostNotes);
  const items = told.map((text) => `<li>${escapeHtml(text.slice(0, kMostText))}</li>`);
  const hidden = all.length - told.length;
  const why = pairs === undefined ? ', as they may name people; they stand in the folder' : '';
  const rest = hidden > 0 ? `<p class="soft">${hidden} ${hidden === 1 ? 'warning is' : 'warnings are'} left out${why}.</p>` : '';
  return [`<section><h2>Warnings</h2>${items.length > 0 ? `<ul>${items.join('')}</ul>` : ''}${rest}</section>`];
}

/** Dotted names and values of nested options. Paths are shown with faces only. */
function settingRows(value: unknown, shown: Shown, name = ''): [string, string][] {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && name.split('.').length <= 4) {
    const rows = Object.entries(value).flatMap(([key, inner]) => settingRows(inner, shown, name === '' ? key : `${name}.${key}`));
    return rows.slice(0, kMostSettings);
  }
  if (value === undefined) return [];
  const text = (
    Array.isArray(value)
      ? value
          .slice(0, 40)
          .map((item) => plain(item))
          .join(', ')
      : plain(value)
  ).slice(0, kMostText);
  const isPath =
    typeof value === 'string' && ['data', 'out', 'model', 'config', 'from', 'test', 'folder'].includes(name.split('.').at(-1)!);
  return shown.pairs === undefined && (isPath || isTelling(text) || isTelling(name)) ? [] : [[name, text]];
}

function plain(value: unknown): string {
  if (typeof value === 'number') return String(Number(value.toPrecision(6)));
  return typeof value === 'object' && value !== null ? '…' : String(value);
}
