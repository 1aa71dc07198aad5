// What a reproduction is made of, each piece once: data sets, pre-trainings and transfers lie in folders named by what decides them, so that tables
// share them and a call that was stopped goes on.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { TrainOptions } from '../config.js';
import { pack } from '../data/pack.js';
import { generate } from '../data/procedural.js';
import { twin } from '../data/twin.js';
import { train } from '../train/train.js';
import type { TransferEvent } from '../transfer/events.js';
import { patientTransfer } from '../transfer/patient.js';
import type { TransferResult } from '../transfer/result.js';
import { transfer } from '../transfer/transfer.js';
import type { Scale } from './scales.js';
import type { Column, Row, TaskName, Variant } from './tables.js';

/** Where real data lies; what is left out is a stand-in. */
export interface RealData {
  /** Folder of DISFA. */
  disfa?: string | undefined;
  /** Folder of FG-NET. */
  fgnet?: string | undefined;
  /** CSV file of dialysis pictures. */
  weight?: string | undefined;
  /** Its two sites: the one trained on in A→B, then the other. @default ['A', 'B'] */
  sites?: readonly string[] | undefined;
}

/** How to make the pieces. */
export interface WorkshopOptions {
  out: string;
  scale: Scale;
  real: RealData;
  /** Given to every training: device, precision, threads. */
  place: Pick<TrainOptions, 'device' | 'precision' | 'threads' | 'loaderThreads'>;
  signal?: AbortSignal | undefined;
  onEvent: (event: PieceEvent) => void;
}

/** What the pieces say while they are made. */
export type PieceEvent =
  | { type: 'piece'; text: string }
  | { type: 'progress'; done: number; total: number; unit: string; secondsLeft: number }
  | { type: 'warning'; message: string };

/** Where the paper's data lies in what `pack` makes. */
const sources = {
  AU6: { set: 'disfa', attribute: 'AU6' },
  AU12: { set: 'disfa', attribute: 'AU12' },
  weightA: { set: 'weightA', attribute: 'weight' },
  weightB: { set: 'weightB', attribute: 'weight' },
  weightAB: { set: 'weightA', attribute: 'weight' },
  age: { set: 'fgnet', attribute: 'age' },
} as const satisfies Record<TaskName, { set: string; attribute: string }>;
type SetName = (typeof sources)[TaskName]['set'];

const digits = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12);

export class Workshop {
  readonly #options: WorkshopOptions;
  readonly #made = new Map<string, Promise<string>>();

  constructor(options: WorkshopOptions) {
    this.#options = options;
  }

  /** A result for a cell of a table. */
  async cell(row: Row, { task, evaluation }: Column, seed: number): Promise<TransferResult> {
    const { scale, place, signal } = this.#options;
    const { set, attribute } = sources[task];
    const data = await this.#set(set);
    const testData = task === 'weightAB' ? await this.#set('weightB') : undefined;
    const variant = row.variant ?? { learning: 'scratch', target: 'absolute', hasCurriculum: true, backbone: 'default', share: 1 };
    const model = variant.learning === 'scratch' ? undefined : await this.#run(variant, seed);
    const { width, size } = scale.train;
    const options = {
      ...scale.transfer,
      backbone: backboneOf(variant, scale),
      width,
      size,
      ...place,
      data,
      attribute,
      model,
      seed,
      signal,
    };
    const isPatient = row.days !== undefined || row.isGeneric === true;
    const key = {
      data: basename(data),
      test: testData && basename(testData),
      model: model && basename(model),
      ...scale.transfer,
      evaluation,
      seed,
    };
    const name = `${task}-${isPatient ? `patient${row.days ?? ''}` : evaluation}-${digits({ ...key, days: row.days, isPatient, variant })}`;
    const out = join(this.#options.out, 'transfers', name);
    if (!existsSync(join(out, 'transfer.json'))) this.#tell({ type: 'piece', text: `${row.name}: ${attribute}, seed ${seed}` });
    const onEvent = (event: TransferEvent) => this.#tellFold(event);
    if (isPatient) return patientTransfer({ ...options, out, days: row.days, onEvent });
    return transfer({ ...options, out, testData, evaluation, final: false, onEvent });
  }

  #tell(event: PieceEvent): void {
    this.#options.onEvent(event);
  }

  #tellFold(event: TransferEvent): void {
    if (event.type === 'warning') this.#tell(event);
    if (event.type === 'fold')
      this.#tell({ type: 'progress', done: event.fold, total: event.folds, unit: 'folds', secondsLeft: event.secondsLeft });
  }

  /** Each piece once, whoever asks first. */
  #once(name: string, make: () => Promise<string>): Promise<string> {
    const known = this.#made.get(name) ?? make();
    this.#made.set(name, known);
    return known;
  }

  /** A pre-training's run folder. */
  #run(variant: Variant, seed: number): Promise<string> {
    const { scale, out, place, signal } = this.#options;
    const { learning, target, hasCurriculum } = variant;
    const options: Omit<TrainOptions, 'data' | 'out'> = {
      ...scale.train,
      ...{ backbone: backboneOf(variant, scale), seed, target },
      ...{ interPersonal: learning === 'intra' ? 0 : 1, intraPersonal: learning === 'inter' ? 0 : 1 },
      ...(hasCurriculum ? {} : { curriculum: 'none' as const }),
    };
    const subjects = Math.max(2, Math.round(variant.share * scale.faces.subjects));
    const name = `${learning}-${digits({ options, faces: { ...scale.faces, subjects } })}`;
    return this.#once(`run ${name}`, async () => {
      const data = await this.#faces(subjects);
      const run = join(out, 'runs', name);
      const resume = existsSync(join(run, 'checkpoints'));
      let isTold = false;
      for await (const event of train({ ...options, ...place, data, out: run, resume }, signal ? { signal } : {})) {
        if (event.type === 'warning') this.#tell(event);
        if (event.type !== 'step') continue;
        if (!isTold) this.#tell({ type: 'piece', text: `Pre-training: ${describeVariant(variant)}, seed ${seed}` });
        isTold = true;
        this.#tell({ type: 'progress', done: event.step, total: event.steps, unit: 'steps', secondsLeft: event.secondsLeft });
      }
      return run;
    });
  }

  /** Drawn faces to learn from. */
  #faces(subjects: number): Promise<string> {
    const { scale, out, signal } = this.#options;
    const faces = { ...scale.faces, subjects };
    const folder = join(out, 'data', `faces-${digits(faces)}`);
    return this.#once(folder, async () => {
      this.#tell({ type: 'piece', text: `Faces of ${subjects} people to learn from` });
      await generate({ ...faces, out: folder, ...(signal && { signal }), onProgress: (progress) => this.#tellPictures(progress) });
      return folder;
    });
  }

  #tellPictures({ done, total, secondsLeft }: { done: number; total: number; secondsLeft: number }): void {
    this.#tell({ type: 'progress', done, total, unit: 'pictures', secondsLeft });
  }

  /** Packed pictures of a task. */
  #set(name: SetName): Promise<string> {
    const { scale, real, out, signal } = this.#options;
    const kind = name === 'weightA' || name === 'weightB' ? 'weight' : name;
    const given = real[kind];
    const [siteA = 'A', siteB = 'B'] = real.sites ?? [];
    const site = kind === 'weight' ? { site: name === 'weightA' ? siteA : siteB } : {};
    const key = digits({ kind, site, packed: scale.packed, from: given === undefined ? scale.twins[kind] : resolve(given) });
    const folder = join(out, 'data', `${name}-${key}`);
    return this.#once(folder, async () => {
      const from = given ?? (await this.#twin(kind));
      this.#tell({ type: 'piece', text: `Packing ${name} from ${from}` });
      const list = given === undefined && kind === 'weight' ? join(from, 'weight.csv') : from;
      const { rejected } = await pack({
        ...{ from: list, out: folder, size: scale.packed, format: kind, ...site },
        ...(signal && { signal }),
        onProgress: (progress) => this.#tellPictures(progress),
      });
      if (rejected.length > 0) this.#tell({ type: 'warning', message: `Not packed: ${rejected.length}, listed in ${folder}/rejected.csv` });
      return folder;
    });
  }

  #twin(kind: 'disfa' | 'fgnet' | 'weight'): Promise<string> {
    const { scale, out, signal } = this.#options;
    const folder = join(out, 'data', `twin-${kind}-${digits(scale.twins[kind])}`);
    return this.#once(folder, async () => {
      this.#tell({ type: 'piece', text: `Drawing a stand-in of ${kind}` });
      await twin({
        kind,
        out: folder,
        ...scale.twins[kind],
        ...(signal && { signal }),
        onProgress: (progress) => this.#tellPictures(progress),
      });
      return folder;
    });
  }
}

const backboneOf = ({ backbone }: Variant, scale: Scale) => (backbone === 'default' ? scale.train.backbone : backbone);

function describeVariant({ learning, target, hasCurriculum, backbone, share }: Variant): string {
  const words = [learning === 'both' ? 'inter- and intra-personal' : `${learning}-personal`, `${target} change`];
  if (!hasCurriculum) words.push('no curriculum');
  if (backbone !== 'default') words.push(backbone);
  if (share < 1) words.push(`${(100 * share).toPrecision(2)} % of the people`);
  return words.join(', ');
}
