// What a reproduction is made of, each piece once: data sets, pre-trainings and transfers lie in folders named by what decides them, so that tables
// share them and a call that was stopped goes on.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { TrainOptions } from '../config.js';
import { isFinished } from '../data/dataset.js';
import { pack } from '../data/pack.js';
import { generate, kRenderer } from '../data/procedural.js';
import { kTwinVersion, twin } from '../data/twin.js';
import { train } from '../train/train.js';
import type { TransferEvent } from '../transfer/events.js';
import { patientTransfer } from '../transfer/patient.js';
import { kResultName, readTransferResult, type TransferResult } from '../transfer/result.js';
import { transfer } from '../transfer/transfer.js';
import type { Place } from '../transfer/tune.js';
import type { ComparatorName } from '../weights/comparators.js';
import type { Scale } from './scales.js';
import { type Column, kScratch, type Row, type TaskName, type Variant } from './tables.js';

/** Where real data lies; for what is left out a stand-in is drawn, as {@link twin} does. */
export interface RealData {
  /** Folder of DISFA, as it is unpacked. */
  disfa?: string | undefined;
  /** Folder of FG-NET, as it is unpacked. */
  fgnet?: string | undefined;
  /** CSV file of dialysis pictures (docs/tasks.md). */
  weight?: string | undefined;
  /** Names of the two sites in `weight`: the one trained on in Edema-A→B, then the other. @default ['A', 'B'] */
  sites?: readonly string[] | undefined;
}

/** Folders of the weights of others by their names, as {@link importWeights} makes them. */
export type Rivals = Readonly<Partial<Record<ComparatorName, string>>>;

/** How to make the pieces. */
export interface WorkshopOptions {
  out: string;
  scale: Scale;
  real: RealData;
  rivals?: Rivals;
  /** Given to every training: device, precision, threads. */
  place: Place;
  signal?: AbortSignal | undefined;
  onEvent: (event: PieceEvent) => void;
}

/** What the pieces say while they are made. */
export type PieceEvent =
  | {
      /** A data set, pre-training or transfer is about to be made. */
      type: 'piece';
      /** What it is, in a few words. */
      text: string;
    }
  | {
      /** How far that piece is. */
      type: 'progress';
      /** Units that are done. */
      done: number;
      /** Units in all. */
      total: number;
      /** What is counted: pictures, steps or folds. */
      unit: string;
      /** Seconds left for the piece, at the pace so far. */
      secondsLeft: number;
    }
  | {
      /** Something to know that ends nothing. */
      type: 'warning';
      /** What it is, in a sentence. */
      message: string;
    };

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

/** What is drawn by another version is other data. */
const kDrawnBy = { renderer: kRenderer, twins: kTwinVersion };

const digits = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12);

export class Workshop {
  readonly #options: WorkshopOptions;
  readonly #made = new Map<string, Promise<string>>();

  constructor(options: WorkshopOptions) {
    this.#options = options;
  }

  /** A result for a cell of a table. */
  async cell(row: Row, { task, evaluation }: Column, seed: number): Promise<TransferResult> {
    const { scale, place, signal, out: root } = this.#options;
    const { set, attribute } = sources[task];
    const { variant = kScratch, days } = row;
    const rival = this.rivalOf(row);
    const isPatient = days !== undefined || row.isGeneric === true;
    const testSet = task === 'weightAB' ? ('weightB' as const) : undefined;
    const run = variant.learning === 'scratch' ? undefined : this.#runOf(variant, seed);
    const key = {
      data: [this.#setOf(set).name, testSet && this.#setOf(testSet).name],
      run: rival === undefined ? run?.name : resolve(rival),
      transfer: scale.transfer,
    };
    const same = variant.backbone === scale.train.backbone ? { ...variant, backbone: 'default' } : variant;
    const name = `${task}-${isPatient ? 'patient' : evaluation}-${digits({ ...key, evaluation, days, isPatient, variant: same, seed })}`;
    const out = join(root, 'transfers', name);
    if (existsSync(join(out, kResultName))) return readTransferResult(out);
    const [data, testData] = [await this.#set(set), testSet && (await this.#set(testSet))];
    const model = rival ?? (run && (await this.#run(run, variant, seed)));
    this.#tell({ type: 'piece', text: `${row.name}: ${task}, seed ${seed}` });
    const { width, size } = scale.train;
    const network = model === undefined ? { backbone: backboneOf(variant, scale), width, size } : {};
    const options = { ...scale.transfer, ...network, ...place, data, attribute, model, seed, signal };
    const onEvent = (event: TransferEvent) => this.#tellFold(event);
    if (isPatient) return patientTransfer({ ...options, out, days, onEvent });
    return transfer({ ...options, out, testData, evaluation, final: false, onEvent });
  }

  /** The folder of the weights that a row is of, where they are given. */
  rivalOf({ rival }: Pick<Row, 'rival'>): string | undefined {
    return rival && this.#options.rivals?.[rival];
  }

  /** The folder of a pre-training; undefined for random weights. */
  async pretrained(variant: Variant, seed: number): Promise<string | undefined> {
    return variant.learning === 'scratch' ? undefined : this.#run(this.#runOf(variant, seed), variant, seed);
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

  /** What a pre-training is, and the name of its folder. */
  #runOf(variant: Variant, seed: number): Run {
    const { scale } = this.#options;
    const options = runOptionsOf(variant, scale, seed);
    const subjects = Math.max(2, Math.round(variant.share * scale.faces.subjects));
    return { name: `${variant.learning}-${digits({ options, faces: { ...scale.faces, subjects, ...kDrawnBy } })}`, options, subjects };
  }

  /** A pre-training's run folder. */
  #run({ name, options, subjects }: Run, variant: Variant, seed: number): Promise<string> {
    const { out, place, signal } = this.#options;
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
    const folder = join(out, 'data', `faces-${digits({ ...faces, ...kDrawnBy })}`);
    return this.#once(folder, async () => {
      if (isFinished(folder)) return folder;
      this.#tell({ type: 'piece', text: `Faces of ${subjects} people to learn from` });
      await generate({ ...faces, out: folder, ...(signal && { signal }), onProgress: (progress) => this.#tellPictures(progress) });
      return folder;
    });
  }

  #tellPictures({ done, total, secondsLeft }: { done: number; total: number; secondsLeft: number }): void {
    this.#tell({ type: 'progress', done, total, unit: 'pictures', secondsLeft });
  }

  /** What the packed pictures of a task come from, and their folder. */
  #setOf(set: SetName): { name: string; kind: 'disfa' | 'fgnet' | 'weight'; given: string | undefined; site: { site?: string } } {
    const { scale, real } = this.#options;
    const kind = set === 'weightA' || set === 'weightB' ? 'weight' : set;
    const given = real[kind];
    const [siteA = 'A', siteB = 'B'] = real.sites ?? [];
    const site = kind === 'weight' ? { site: set === 'weightA' ? siteA : siteB } : {};
    // A list may be corrected where it is; of folders the path has to do.
    const from =
      given === undefined
        ? { ...scale.twins[kind], ...kDrawnBy }
        : [resolve(given), kind === 'weight' && digits(readFileSync(given, 'utf8'))];
    return { name: `${set}-${digits({ kind, site, packed: scale.packed, from })}`, kind, given, site };
  }

  /** Packed pictures of a task. */
  #set(set: SetName): Promise<string> {
    const { scale, out, signal } = this.#options;
    const { name, kind, given, site } = this.#setOf(set);
    const folder = join(out, 'data', name);
    return this.#once(folder, async () => {
      if (isFinished(folder)) return folder;
      const from = given ?? (await this.#twin(kind));
      this.#tell({ type: 'piece', text: `Packing ${set} from ${from}` });
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
    const folder = join(out, 'data', `twin-${kind}-${digits({ ...scale.twins[kind], ...kDrawnBy })}`);
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

type RunOptions = Omit<TrainOptions, 'data' | 'out'>;

/** A pre-training. */
interface Run {
  /** Of its folder. */
  name: string;
  options: RunOptions;
  /** People to learn from. */
  subjects: number;
}

/** The options of a pre-training: the scale's, but for what a variant changes. */
export function runOptionsOf(variant: Variant, scale: Scale, seed: number): RunOptions {
  const { learning, target, hasCurriculum } = variant;
  return {
    ...scale.train,
    ...{ backbone: backboneOf(variant, scale), seed, target },
    ...{ interPersonal: learning === 'intra' ? 0 : 1, intraPersonal: learning === 'inter' ? 0 : 1 },
    ...(hasCurriculum ? {} : { curriculum: 'none' as const }),
  };
}

const backboneOf = ({ backbone }: Variant, scale: Scale) => (backbone === 'default' ? scale.train.backbone : backbone);

function describeVariant({ learning, target, hasCurriculum, backbone, share }: Variant): string {
  const words = [learning === 'both' ? 'inter- and intra-personal' : `${learning}-personal`, `${target} change`];
  if (!hasCurriculum) words.push('no curriculum');
  if (backbone !== 'default') words.push(backbone);
  if (share < 1) words.push(`${(100 * share).toPrecision(2)} % of the people`);
  return words.join(', ');
}
