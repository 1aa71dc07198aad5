// Makes the page of a run or a transfer: reads what the folder says, looks through the model at drawn faces and, when asked, at the user's pictures.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { checkObject, checkSignal, checkText } from '../check.js';
import { ComFaceError, invalid } from '../errors.js';
import { loadModel, type Model } from '../model.js';
import { kResultName, readTransferResult, type TransferResult } from '../transfer/result.js';
import { replaceFile } from '../use/files.js';
import { drawnLooks } from './looks.js';
import { runPage, type Shown, type ShownPair, transferPage } from './pages.js';
import { type RunFacts, readRun, runFolderOf } from './run.js';
import { runPairs, transferPairs } from './samples.js';

/** What goes into the page. */
export interface ReportOptions {
  /** Name of the page; one that is there is replaced. @default report.html in the folder */
  out?: string;
  /** Put pictures that it was tested on, and names from the data, into the page. @default false */
  includeFaces?: boolean;
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

/** A page that was made. */
export interface Report {
  /** The page. */
  file: string;
  /** What it is about. */
  of: 'run' | 'transfer';
  /** What is missing in it, and why. */
  notes: string[];
}

/**
 * Makes one self-contained HTML page of the folder of a pre-training run or of a transfer: nothing is loaded, no script runs. Without `includeFaces` there is
 * no picture and no name of a person in it. A model, training or pictures that are gone cost their part of the page, which says so.
 *
 * @param folder The `out` of a run or a transfer.
 * @throws ComFaceError INVALID_INPUT for a folder that is neither, a run without steps, a result of a later version; CORRUPT_FILE; IO.
 * @example
 * ```ts
 * import { report } from 'comface';
 *
 * const { file, notes } = await report('run', { out: 'report.html' });
 * for (const note of notes) console.warn(note); // what is missing in it
 * ```
 */
export async function report(folder: string, options: ReportOptions = {}): Promise<Report> {
  checkText('folder', folder);
  checkObject('options', options);
  const { out = join(folder, 'report.html'), includeFaces = false, signal } = options;
  checkText('out', out);
  if (typeof includeFaces !== 'boolean') throw invalid('includeFaces', 'true or false', includeFaces, 'Write true or false.');
  checkSignal(signal);
  signal?.throwIfAborted();
  const isTransfer = existsSync(join(folder, kResultName));
  if (!isTransfer && runFolderOf(folder) !== folder) throw neither(folder);
  const page = new Page(folder, includeFaces, signal);
  const html = isTransfer ? await page.ofTransfer() : await page.ofRun();
  signal?.throwIfAborted();
  await replaceFile(out, Buffer.from(html));
  return { file: out, of: isTransfer ? 'transfer' : 'run', notes: page.notes };
}

function neither(folder: string): ComFaceError {
  const hint = 'Name the folder that comface train or comface transfer wrote (--out).';
  return invalid('folder', `a run (config.json, log.jsonl) or a transfer (${kResultName})`, folder, hint);
}

class Page {
  readonly notes: string[] = [];
  readonly #folder: string;
  readonly #includeFaces: boolean;
  readonly #signal: AbortSignal | undefined;

  constructor(folder: string, includeFaces: boolean, signal: AbortSignal | undefined) {
    this.#folder = folder;
    this.#includeFaces = includeFaces;
    this.#signal = signal;
  }

  async ofRun(): Promise<string> {
    const run = await readRun(this.#folder);
    return runPage(run, await this.#shown('smile', (model) => runPairs(run, model, this.#signal)));
  }

  async ofTransfer(): Promise<string> {
    const result = await readTransferResult(this.#folder);
    const shown = await this.#shown(result.attribute, (model) => transferPairs(result, model, this.#signal));
    return transferPage(result, await this.#trainingOf(result), shown);
  }

  /** With the folder's model, if it loads. */
  async #shown(attribute: string, pairsOf: (model: Model) => Promise<ShownPair[]>): Promise<Shown> {
    const folder = resolve(this.#folder);
    let model: Model;
    try {
      model = await loadModel(this.#folder);
    } catch (error) {
      const why = this.#without('The model', error);
      return { folder, looks: why, pairs: this.#includeFaces ? why : undefined };
    }
    try {
      const looks = await drawnLooks(model, attribute, this.#signal);
      if (!this.#includeFaces) return { folder, looks, pairs: undefined };
      const pairs = await pairsOf(model).catch((error) => this.#without('Pictures', error));
      return { folder, looks, pairs: pairs.length > 0 ? pairs : 'There is no tested pair to show.' };
    } finally {
      model.dispose();
    }
  }

  /** Words for a part that cannot be shown; the reason, which may name people, goes to whoever makes the page. */
  #without(part: string, error: unknown): string {
    if (!(error instanceof ComFaceError)) throw error;
    this.notes.push(`${part} cannot be shown: ${error.message}`);
    return this.#includeFaces ? `${part} cannot be shown: ${error.message}` : `${part} cannot be shown (${error.code}).`;
  }

  async #trainingOf({ model }: TransferResult): Promise<RunFacts | string> {
    if (model.folder === null) return 'The network began with random weights: there was no pre-training.';
    const folder = runFolderOf(model.folder);
    if (folder === undefined) {
      this.notes.push(`The training curves are left out: there is no run in ${model.folder} any more.`);
      return 'The folder of the pre-training is not there any more, so its curves are left out.';
    }
    return readRun(folder).catch((error) => this.#without('The pre-training', error));
  }
}
