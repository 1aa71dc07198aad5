// What is compared: the pictures of one attribute in a data set, each with its subject and its label. Pairs are drawn once, from the seed
// and the subjects alone, so that every method sees the same ones.
import type { DataSet } from '../data/dataset.js';
import { ComFaceError, invalid } from '../errors.js';
import { drawPairs, type Pairs } from './folds.js';

/** Labeled pictures; all lists have one entry for each. */
export interface Task {
  data: DataSet;
  attribute: string;
  /** Of a label, and so of a change. */
  unit: string;
  /** Sample numbers in the data set. */
  sample: Uint32Array;
  subject: Uint32Array;
  label: Float32Array;
  /** Subjects with a single picture, which has nothing to be compared with. They are in no list. */
  alone: number[];
}

const units: Record<string, string> = { weight: 'kg', age: 'years', AU6: 'levels', AU12: 'levels' };

/**
 * The pictures that an attribute of a data set labels.
 *
 * @param attribute May be left out where the set has one.
 * @param unit What a change is counted in. @default levels of AU6 and AU12, kg of weight, years of age, steps of alpha of drawn faces
 * @throws ComFaceError INVALID_INPUT for a name that the set does not have, or no subject with two pictures.
 */
export function taskOf(data: DataSet, attribute?: string, unit?: string): Task {
  const name = attribute ?? (data.attributes.length === 1 ? data.attributes[0]! : undefined);
  if (name === undefined || !data.attributes.includes(name)) {
    throw invalid('attribute', `one of ${data.attributes.join(', ')}`, attribute, `Name what changes in ${data.folder}: --attribute NAME.`);
  }
  const wanted = data.attributes.indexOf(name);
  const rows = { sample: [] as number[], subject: [] as number[], label: [] as number[] };
  const alone: number[] = [];
  for (const subject of data.subjects) {
    const groups = data.groupsOf(new Set([subject]));
    const before = rows.sample.length;
    for (let place = 0; place < groups.length; place++) {
      const sample = groups.sampleAt(place);
      if (data.attributeOf(sample) !== wanted) continue;
      rows.sample.push(sample);
      rows.subject.push(subject);
      rows.label.push(groups.alphaAt(place));
    }
    if (rows.sample.length - before !== 1) continue;
    alone.push(subject);
    for (const list of Object.values(rows)) list.pop();
  }
  if (rows.sample.length === 0) {
    throw new ComFaceError('INVALID_INPUT', `Expected subjects with two or more pictures of ${name} in ${data.folder} but found none`, {
      hint: 'A change is told between two pictures of one person; give each person several.',
    });
  }
  return {
    data,
    attribute: name,
    unit: unit ?? (data.isDrawn ? 'steps of alpha' : (units[name] ?? 'units of the label')),
    sample: Uint32Array.from(rows.sample),
    subject: Uint32Array.from(rows.subject),
    label: Float32Array.from(rows.label),
    alone,
  };
}

/**
 * Pairs of a task's pictures, x and y as sample numbers.
 *
 * @throws ComFaceError INVALID_INPUT where no pair changes, or one by more than a float holds.
 */
export function pairsOf(task: Task, pairsPerSubject: number, seed: number): Pairs {
  const pairs = drawPairs({ subject: task.subject, value: task.label }, pairsPerSubject, BigInt(seed));
  if (pairs.target.every((change) => change === 0)) {
    throw new ComFaceError('INVALID_INPUT', `Expected changes of ${task.attribute} within subjects in ${task.data.folder} but found none`, {
      hint: 'Each subject needs pictures with different labels.',
    });
  }
  const far = pairs.target.findIndex((change) => !Number.isFinite(change));
  if (far >= 0) {
    const [from, to] = [pairs.x, pairs.y].map((rows) => task.label[rows[far]!]!.toPrecision(4));
    throw new ComFaceError(
      'INVALID_INPUT',
      `Expected changes of ${task.attribute} below 3.4e38 in ${task.data.folder} but found one from ${from} to ${to}`,
      { hint: 'Give labels in a larger unit.' },
    );
  }
  const toSample = (rows: Uint32Array) => rows.map((row) => task.sample[row]!);
  return { ...pairs, x: toSample(pairs.x), y: toSample(pairs.y) };
}
