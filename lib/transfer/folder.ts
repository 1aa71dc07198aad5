// The folder of a transfer: a plan says what it is to become, parts are written as they are done, and the result last; so the same call goes
// on with what a stopped one left.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { writeWhole } from '../data/shards.js';
import { isWritten, writing } from '../data/target.js';
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
    const entries = existsSync(this.out) ? namesIn(this.out).filter((name) => !name.startsWith('run.lock')) : [];
    if (entries.length === 0) return undefined;
    if (textIn(join(this.out, kPlanName)) !== this.#plan) {
      if (this.#isBare(entries)) return undefined; // stopped before anything was learned
      const hint = 'Name a folder that is new or empty, or remove this one.';
      throw new ComFaceError('INVALID_INPUT', `Expected a new or empty folder for \`out\` but ${this.out} holds something else`, { hint });
    }
    const path = join(this.out, kResultName);
    const text = textIn(path);
    if (text === '') return undefined;
    try {
      return parseTransferResult(text, path);
    } catch (error) {
      if (!(error instanceof ComFaceError) || error.code !== 'CORRUPT_FILE') throw error;
      const hint = `Remove that file and do the same again: it is made from what is in ${kPartsName}.`;
      throw new ComFaceError(error.code, error.message, { hint, cause: error });
    }
  }

  /** Whether all that lies there is a plan, if that, and no part. */
  #isBare(entries: readonly string[]): boolean {
    const isOwn = (name: string) => name === kPartsName || name.startsWith(kPlanName);
    return entries.every(isOwn) && (!entries.includes(kPartsName) || namesIn(join(this.out, kPartsName)).length === 0);
  }

  async begin(): Promise<void> {
    await writing(this.out, async () => {
      const parts = join(this.out, kPartsName);
      await makeFolder(parts);
      await writeWhole(this.out, kPlanName, this.#plan);
      // What processes left that were killed.
      for (const folder of [this.out, parts])
        for (const name of namesIn(folder)) if (name.endsWith('.part') && !isWritten(name)) await rm(join(folder, name), { force: true });
    });
  }

  /**
   * A part that is there, or that `make` makes now.
   *
   * @param isRight Whether what was read is such a part.
   * @throws ComFaceError CORRUPT_FILE naming a part that is not.
   */
  async part<T>(name: string, isRight: (value: unknown) => value is T, make: () => Promise<T>): Promise<{ value: T; isNew: boolean }> {
    const path = join(this.out, kPartsName, `${name}.json`);
    const text = textIn(path);
    if (text !== '') return { value: parsed(path, text, isRight), isNew: false };
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

function parsed<T>(path: string, text: string, isRight: (value: unknown) => value is T): T {
  let why = 'what this transfer did not write';
  try {
    const value: unknown = JSON.parse(text);
    if (isRight(value)) return value;
  } catch (cause) {
    why = messageOf(cause);
  }
  const hint = 'Remove that file and do the same again: that part is made anew.';
  throw new ComFaceError('CORRUPT_FILE', `${path}: expected a part of a transfer but found something else (${why})`, { hint });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    const hint = 'Name a folder that is new or empty.';
    throw new ComFaceError('IO', `Cannot use ${folder}: ${messageOf(cause)}`, { hint, cause });
  }
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
