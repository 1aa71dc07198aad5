// Embeddings of pictures as a file that other programs read: numbers in .npy, and beside it which row is which picture.
import { checkObject, checkSignal, checkText, textsOf } from '../check.js';
import { csvLine } from '../data/csv.js';
import { invalid } from '../errors.js';
import { checkModel, type Model } from '../model.js';
import { replaceFile } from './files.js';
import { encodeNpy } from './npy.js';

/** What was written. */
export interface SavedEmbeddings {
  /** The .npy file: float32, pictures x width. */
  npy: string;
  /** The CSV file, with the columns `row` (from 0) and `path`. */
  csv: string;
  /** Number of pictures. */
  pictures: number;
  /** Width of an embedding. */
  width: number;
}

/**
 * Writes the embeddings of JPEG pictures, as {@link Model.embed} has them, into an .npy file, and their paths into a .csv file beside it.
 *
 * @param files JPEG files.
 * @param out Name of the .npy file; either file that is there is replaced.
 * @param options.signal Stops the call, which then rejects with `signal.reason` and writes nothing.
 * @throws ComFaceError INVALID_INPUT for another name; CORRUPT_FILE or IO naming the first picture that cannot be read, or the file that cannot be written.
 * @example
 * ```ts
 * import { loadModel, saveEmbeddings } from 'comface';
 *
 * const model = await loadModel('run');
 * await saveEmbeddings(model, ['a.jpg', 'b.jpg'], 'h.npy'); // in Python: numpy.load('h.npy').shape == (2, model.width)
 * model.dispose();
 * ```
 */
export async function saveEmbeddings(
  model: Model,
  files: readonly string[],
  out: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<SavedEmbeddings> {
  checkModel(model);
  const paths = textsOf('files', files);
  checkText('out', out);
  checkObject('options', options);
  const { signal } = options;
  checkSignal(signal);
  if (!out.endsWith('.npy'))
    throw invalid('out', 'a name that ends in .npy', out, 'Name an .npy file; the names go into a .csv beside it.');
  const { width } = model;
  const h = await model.embed(paths, { signal });
  const csv = `${out.slice(0, -'.npy'.length)}.csv`;
  await replaceFile(out, encodeNpy(h, paths.length, width));
  await replaceFile(csv, Buffer.from(csvLine(['row', 'path']) + paths.map((path, row) => csvLine([row, path])).join('')));
  return { npy: out, csv, pictures: paths.length, width };
}
