// The folder of a transfer: a plan says what it is to become, parts are written as they are done, and the result last; so the same call goes
// on with what a stopped one left.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { writeWhole } from '../data/shards.js';
import { writing } from '../data/target.js';
import { ComFaceError, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';
import { kResultName, parseTransferResult, type TransferResult } from './result.js';
import type { Task } from './task.js';
import type { Weights } from './tune.js';

const kPlanName = 'transfer.plan.json';
const kPartsName = 'parts';

/** What a plan consists of: everything that decides the result. */
export interface Plan {
  kind: string;
  tasks: readonly (Task | undefined)[];
  design: object;
  start: Weights | undefined;
  settings: Readonly<Record<string, unknown>>;
}

export class ResultFolder {
  readonly out: string;
  readonly #plan: string;

  constructor(out: string, { kind, tasks, design, start, settings }: Plan) {
    this.out = resolve(out);
    const data = tasks.map((task) => (task ? [task.data.hash, task.attribute, task.unit] : null));
    this.#plan = `${JSON.stringify({ comface: kind, version: 1, data, design, start: hashOf(start), settings })}\n`;
  }

  /**
   * The result, if the folder holds it.
   * @throws ComFaceError INVALID_INPUT for a folder with other content, IO.
   */
  finished(): TransferResult | undefined {
    const entries = existsSync(this.out) ? this.#entries().filter((name) => !name.startsWith('run.lock')) : [];
    if (entries.length === 0) return undefined;
    if (textIn(join(this.out, kPlanName)) !== this.#plan) {
      const hint = 'Name a folder that is new or empty, or remove this one.';
      throw new ComFaceError('INVALID_INPUT', `Expected a new or empty folder for \`out\` but ${this.out} holds something else`, { hint });
    }
    const path = join(this.out, kResultName);
    const text = textIn(path);
    return text === '' ? undefined : parseTransferResult(text, path);
  }

  #entries(): string[] {
    try {
      return readdirSync(this.out);
    } catch (cause) {
      const hint = 'Name a folder that is new or empty.';
      throw new ComFaceError('IO', `Cannot use ${this.out}: ${messageOf(cause)}`, { hint, cause });
    }
  }

  async begin(): Promise<void> {
    await writing(this.out, async () => {
      await makeFolder(join(this.out, kPartsName));
      await writeWhole(this.out, kPlanName, this.#plan);
    });
  }

  /** A part that is there, or that `make` makes now. */
  async part<T>(name: string, make: () => Promise<T>): Promise<{ value: T; isNew: boolean }> {
    const text = textIn(join(this.out, kPartsName, `${name}.json`));
    if (text !== '') return { value: JSON.parse(text) as T, isNew: false };
    const value = await make();
    await writing(this.out, () => writeWhole(join(this.out, kPartsName), `${name}.json`, JSON.stringify(value)));
    return { value, isNew: true };
  }

  async finish(result: TransferResult): Promise<TransferResult> {
    await writing(this.out, () => writeWhole(this.out, kResultName, `${JSON.stringify(result)}\n`));
    return result;
  }
}

/** SHA-256 of weights by name; null of none. */
function hashOf(weights: Weights | undefined): string | null {
  if (weights === undefined) return null;
  const hash = createHash('sha256');
  for (const [name, { data }] of [...weights].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}

/** A file's text, or nothing. */
function textIn(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new ComFaceError('IO', `Cannot read ${path}: ${messageOf(error)}`, { hint: 'Check its permissions.', cause: error });
  }
}
