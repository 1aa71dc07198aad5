// What each table and figure of the ComFace paper (arXiv 2405.16016v3, section 4) asks: which pre-training in which row, which task and score
// in which column, and what the paper found. Rows of rivals whose weights are not at hand have the paper's figures alone.
import type { EvaluationName } from '../transfer/options.js';
import { type ComparatorName, comparatorNames, comparators } from '../weights/comparators.js';

/** Data that networks are transferred to; `weightAB` is trained on Edema-A and tested on Edema-B. */
export const taskNames = ['AU6', 'AU12', 'weightA', 'weightB', 'weightAB', 'age'] as const;
export type TaskName = (typeof taskNames)[number];

/** How a backbone came about: `scratch` is random, the others are pre-trainings, all but what they change as {@link kFull}. */
export interface Variant {
  learning: 'scratch' | 'inter' | 'intra' | 'both';
  target: 'absolute' | 'signed';
  hasCurriculum: boolean;
  backbone: 'resnet18' | 'resnet50' | 'resnet101' | 'vit_b_16' | 'default';
  /** Share of the people to learn from. */
  share: number;
}

/** The paper's method. */
export const kFull: Variant = { learning: 'both', target: 'absolute', hasCurriculum: true, backbone: 'default', share: 1 };
/** Random weights. */
export const kScratch: Variant = { ...kFull, learning: 'scratch' };

export type Score = 'mae' | 'correlation' | 'accuracy';

/** A column: one score of one task. */
export interface Column {
  title: string;
  task: TaskName;
  score: Score;
  evaluation: EvaluationName;
}

/** A row; the paper's figures are in the order of the columns, accuracy in percent. */
export interface Row {
  name: string;
  /** undefined: the paper's alone, but for a rival whose weights are given. */
  variant?: Variant;
  /** Whose weights the row is of. */
  rival?: ComparatorName;
  /** Days of a patient's own data: the single-picture model of table 5. */
  days?: 1 | 2 | 3;
  /** Whether it is compared on the pairs of table 5. */
  isGeneric?: boolean;
  paper: readonly (number | null)[];
}

/** A figure of ours beside the paper's. Accuracy is in percent. */
export interface Cell {
  /** Ours: the mean over the seeds; null where there is none. */
  value: number | null;
  /** Lower end of the 95 % interval of a single seed, or the lowest of several. */
  low: number | null;
  /** Upper end of that interval, or the highest of several. */
  high: number | null;
  /** Ours of each seed. */
  values: number[];
  /** The paper's; null where it has none. */
  paper: number | null;
}

export interface Table {
  title: string;
  columns: readonly Column[];
  rows: readonly Row[];
}

const scoreTitles: Record<Score, string> = { mae: 'MAE', correlation: 'Corr.', accuracy: 'Acc.' };
const taskTitles: Record<TaskName, string> = {
  AU6: 'AU6',
  AU12: 'AU12',
  weightA: 'Edema-A',
  weightB: 'Edema-B',
  weightAB: 'Edema-A→B',
  age: 'Age',
};

const column = (task: TaskName, score: Score, evaluation: EvaluationName = 'fineTune', note = ''): Column => ({
  title: `${taskTitles[task]} ${note}${scoreTitles[score]}`,
  task,
  score,
  evaluation,
});

const expression = (['AU6', 'AU12'] as const).flatMap((task) =>
  (['linear', 'fineTune'] as const).flatMap((evaluation) =>
    (['mae', 'correlation'] as const).map((score) => column(task, score, evaluation, evaluation === 'linear' ? 'linear ' : 'fine-tuned ')),
  ),
);
const weight = (['weightA', 'weightB', 'weightAB'] as const).flatMap((task) =>
  (['mae', 'correlation', 'accuracy'] as const).map((score) => column(task, score)),
);
const ablation = [
  column('AU6', 'correlation'),
  column('AU12', 'correlation'),
  column('weightA', 'accuracy'),
  column('weightB', 'accuracy'),
  column('age', 'correlation'),
];

/** Shares of 35 million pictures, by the number of identities. */
const scales: readonly [string, number, number | null][] = [
  ['0.1M', 0.1 / 35, null],
  ['5M', 5 / 35, null],
  ['20M', 20 / 35, null],
  ['35M', 1, null],
];

function rival(name: string, ...paper: (number | null)[]): Row {
  const known = comparatorNames.find((each) => comparators[each].title === name);
  return { name, paper, ...(known !== undefined && { rival: known }) };
}

// biome-ignore format: tables
const all = {
  table2: {
    title: 'Table 2: facial expression change (AU6 and AU12)',
    columns: expression,
    rows: [
      { name: 'Scratch', variant: kScratch, paper: [null, null, 0.745, 0.277, null, null, 0.975, 0.326] },
      rival('ImageNet', 0.752, 0.339, 0.65, 0.613, 0.973, 0.457, 0.634, 0.801),
      rival('VGGFace2', 0.73, 0.461, 0.66, 0.578, 0.796, 0.67, 0.644, 0.795),
      rival('SimCLR', 0.742, 0.469, 0.662, 0.595, 0.959, 0.576, 0.664, 0.793),
      rival('MoCo v2', 0.749, 0.294, 0.621, 0.639, 0.985, 0.484, 0.606, 0.815),
      rival('SwAV', 0.745, 0.464, 0.626, 0.655, 0.964, 0.645, 0.656, 0.796),
      rival('Barlow Twins', 0.745, 0.472, 0.662, 0.607, 0.958, 0.698, 0.659, 0.793),
      rival('Bulat et al.', 0.745, 0.412, 0.604, 0.669, 0.964, 0.567, 0.599, 0.829),
      rival('FaRL', 0.727, 0.476, 0.645, 0.627, 0.809, 0.748, 0.617, 0.82),
      rival('PCL', 0.735, 0.415, 0.684, 0.552, 0.914, 0.635, 0.636, 0.8),
      { name: 'ComFace', variant: kFull, paper: [0.639, 0.648, 0.629, 0.663, 0.663, 0.786, 0.598, 0.831] },
    ],
  },
  table3: {
    title: 'Table 3: weight change, fine-tuned',
    columns: weight,
    rows: [
      { name: 'Scratch', variant: kScratch, paper: [1.768, 0.416, 68.5, 1.682, 0.671, 83, 2.139, 0.508, 72.8] },
      rival('ImageNet', 1.486, 0.655, 83.6, 1.665, 0.703, 91.9, 1.728, 0.787, 91.7),
      rival('VGGFace2', 1.482, 0.695, 84.8, 1.593, 0.778, 90.2, 1.732, 0.785, 91.5),
      rival('SimCLR', 1.535, 0.671, 82.2, 1.504, 0.788, 92.6, 1.917, 0.735, 88.4),
      rival('MoCo v2', 1.451, 0.702, 84.8, 1.488, 0.767, 91, 1.759, 0.775, 90.9),
      rival('SwAV', 1.483, 0.718, 85.7, 1.448, 0.788, 92.8, 1.771, 0.803, 91.9),
      rival('Barlow Twins', 1.552, 0.634, 80.4, 1.575, 0.753, 90.6, 1.867, 0.741, 86.7),
      rival('Bulat et al.', 1.462, 0.697, 84.3, 1.479, 0.791, 94.6, 1.714, 0.801, 91.1),
      rival('FaRL', 1.517, 0.654, 82.8, 1.454, 0.773, 93.5, 1.862, 0.718, 88.9),
      rival('PCL', 1.484, 0.662, 82, 1.51, 0.748, 89.2, 1.84, 0.715, 83.9),
      { name: 'ComFace', variant: kFull, paper: [1.394, 0.75, 88.6, 1.523, 0.801, 96.3, 1.668, 0.819, 93.8] },
    ],
  },
  table5: {
    title: 'Table 5: a model of one patient (ours pre-trains by regression, the cited one by WeightSupMoCo) against one of all, on the same patients and days',
    columns: (['mae', 'correlation', 'accuracy'] as const).map((score) => column('weightA', score)),
    rows: [
      { name: 'Patient-specific (1 day)', days: 1, paper: [1.629, 0.473, 75.6] },
      { name: 'Patient-specific (2 days)', days: 2, paper: [1.483, 0.617, 78.7] },
      { name: 'Patient-specific (3 days)', days: 3, paper: [1.245, 0.717, 85.6] },
      { name: 'Patient-generic (ComFace)', variant: kFull, isGeneric: true, paper: [1.304, 0.72, 86.6] },
    ],
  },
  table6: {
    title: 'Table 6: age change, fine-tuned',
    columns: [column('age', 'mae'), column('age', 'correlation')],
    rows: [
      { name: 'Scratch', variant: kScratch, paper: [8.98, 0.514] },
      rival('ImageNet', 7.863, 0.614),
      rival('SwAV', 6.368, 0.78),
      rival('FaRL', 5.249, 0.851),
      { name: 'ComFace', variant: kFull, paper: [4.914, 0.87] },
    ],
  },
  table7: {
    title: 'Table 7: what each part of ComFace adds, fine-tuned',
    columns: ablation,
    rows: [
      { name: '(a) inter only', variant: { ...kFull, learning: 'inter' }, paper: [0.593, 0.829, 79.5, 89, 0.782] },
      { name: '(b) intra only', variant: { ...kFull, learning: 'intra' }, paper: [0.66, 0.833, 87, 93.1, 0.861] },
      { name: '(c) both', variant: kFull, paper: [0.663, 0.831, 88.6, 96.3, 0.87] },
      { name: '(d) both, signed', variant: { ...kFull, target: 'signed' }, paper: [0.662, 0.818, 82.8, 91, 0.83] },
      { name: '(e) both, no curriculum', variant: { ...kFull, hasCurriculum: false }, paper: [0.659, 0.821, 88, 94.9, 0.856] },
      { name: 'Scratch', variant: kScratch, paper: [0.277, 0.326, 68.5, 83, 0.514] },
    ],
  },
  table8: {
    title: 'Table 8: backbones, fine-tuned',
    columns: ablation,
    rows: [
      { name: 'ResNet-18', variant: { ...kFull, backbone: 'resnet18' }, paper: [0.658, 0.826, 87.2, 93.2, 0.87] },
      { name: 'ResNet-50', variant: { ...kFull, backbone: 'resnet50' }, paper: [0.663, 0.831, 88.6, 96.3, 0.87] },
      { name: 'ResNet-101', variant: { ...kFull, backbone: 'resnet101' }, paper: [0.66, 0.82, 86.4, 93.6, 0.853] },
      { name: 'ViT-B/16', variant: { ...kFull, backbone: 'vit_b_16' }, paper: [0.609, 0.825, 81.8, 93.9, 0.843] },
    ],
  },
  figure3: {
    title: "Figure 3: how much there is to learn from, as shares of the scale's people, fine-tuned (the paper has a chart, no numbers, below 35M)",
    columns: [column('AU12', 'correlation'), column('weightA', 'accuracy'), column('age', 'correlation')],
    rows: scales.map(([name, share]) => ({
      name: `${name} of 35M`, variant: { ...kFull, share }, paper: share === 1 ? [0.831, 88.6, 0.87] : [null, null, null],
    })),
  },
} satisfies Record<string, Table>;

/** A table or figure of the paper that can be made anew. */
export type TableName = keyof typeof all | 'figure4';
export const tables: Readonly<Record<keyof typeof all, Table>> = all;
/** Every table and figure that can be made anew. */
export const tableNames: readonly TableName[] = [...(Object.keys(all) as (keyof typeof all)[]), 'figure4'];

/** Rivals that the paper's figure 4 looks through. */
export const rivalLookers = ['imagenet', 'simclr', 'vggface2'] as const satisfies readonly ComparatorName[];

/** Backbones that figure 4 looks through, beside {@link rivalLookers} whose weights are given. */
export const lookers: readonly { name: string; variant: Variant }[] = [
  { name: 'Scratch', variant: kScratch },
  { name: 'Inter only', variant: { ...kFull, learning: 'inter' } },
  { name: 'Intra only', variant: { ...kFull, learning: 'intra' } },
  { name: 'ComFace', variant: kFull },
];
