// Saves and loads the whole state of a run. After a crash or power loss at any moment, the old or the new checkpoint is found, never half of one.
// The order of the calls is the promise: files synced, manifest last, folder synced, renamed, parent synced; only then are old ones pruned.
// test/checkpoint.test.ts replays it on a simulated disk and visits every state a crash can leave; change nothing here without it.
import { createHash } from 'node:crypto';
import { basename, dirname, join, resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import * as z from 'zod';
import { ComFaceError, invalid, show } from '../errors.js';
import { decodeSafetensors, encodeInPieces, type Tensor } from '../weights/safetensors.js';
import { disk, errorCode, explained, type FileSystem } from './files.js';

export type { FileSystem } from './files.js';
export { lockRun } from './lock.js';

/** All that a run needs to go on as if it had never stopped. */
export interface CheckpointState {
  /** Optimizer updates done. */
  step: number;
  weights: Map<string, Tensor>;
  optimizer: Map<string, Tensor>;
  /** JSON: config, seed, data hash, device, precision, threads, versions. */
  info: Record<string, unknown>;
}

const kVersion = 1;
const tensorFile = z.strictObject({ bytes: z.int().min(0), sha256: z.string() });
const manifestSchema = z.strictObject({
  format: z.literal('comface-checkpoint'),
  version: z.literal(kVersion),
  step: z.int().min(0),
  info: z.record(z.string(), z.unknown()),
  files: z.strictObject({ 'weights.safetensors': tensorFile, 'optimizer.safetensors': tensorFile }),
});
type Manifest = z.infer<typeof manifestSchema>;
const kManifestBytes = 1 << 20;

/**
 * Writes `checkpoints/step-00001200` in the run folder and removes older checkpoints beyond `keep`.
 *
 * Leave the arrays of `state` alone until it resolves; then the checkpoint survives a power loss. When the same checkpoint is there already,
 * as after a resume, it stays.
 *
 * @param options.keep How many checkpoints stay, this one counted: at least 1. Checkpoints of later steps are not touched.
 * @returns The folder of the checkpoint.
 * @throws ComFaceError NOT_FINITE naming the tensor, IO naming the path, INVALID_INPUT when another good checkpoint of this step is there.
 */
export async function saveCheckpoint(
  runDir: string,
  state: CheckpointState,
  options: { keep: number; files?: FileSystem },
): Promise<string> {
  if (!Number.isSafeInteger(state.step) || state.step < 0) throw invalid('step', 'a whole number of at least 0', state.step);
  if (!Number.isSafeInteger(options.keep) || options.keep < 1) throw invalid('keep', 'a whole number of at least 1', options.keep);
  const files = explained(options.files ?? disk);
  const left = leftOn(options.files ?? disk);
  const parent = resolve(runDir, 'checkpoints');
  const path = join(parent, folderName(state.step));
  const weights = await encodeFinite(state.weights);
  const optimizer = await encodeFinite(state.optimizer);
  const manifest: Manifest = {
    format: 'comface-checkpoint',
    version: kVersion,
    step: state.step,
    info: state.info,
    files: {
      'weights.safetensors': { bytes: weights.length, sha256: await sha256(weights) },
      'optimizer.safetensors': { bytes: optimizer.length, sha256: await sha256(optimizer) },
    },
  };
  const contents = [
    ['weights.safetensors', weights],
    ['optimizer.safetensors', optimizer],
    ['manifest.json', await encodeManifest(manifest)],
  ] as const;
  await makeFolder(files, parent);
  if (!(await isSaved(files, path, manifest))) await writeFolder(files, path, contents, left);
  // Also when it was there: a kill may have come between its rename and this.
  await files.syncDirectory(parent);
  await prune(files, parent, state.step, options.keep, left);
  return path;
}

/**
 * Loads the newest checkpoint of a run folder whose sizes and hashes match; null when there is none.
 *
 * @param options.onWarning Told of each damaged checkpoint that was passed over, and why.
 * @throws ComFaceError IO when a folder or file cannot be opened, CORRUPT_FILE when there are checkpoints and all are damaged, INVALID_INPUT when
 * the newest is of a later version: starting over would throw good work away.
 */
export async function latestCheckpoint(
  runDir: string,
  options: { onWarning?: (text: string) => void; files?: FileSystem } = {},
): Promise<(CheckpointState & { path: string }) | null> {
  const files = explained(options.files ?? disk);
  const parent = resolve(runDir, 'checkpoints');
  let unread: ComFaceError | undefined;
  let newest: ComFaceError | undefined;
  for (const step of (await savedSteps(files, parent)).reverse()) {
    const path = join(parent, folderName(step));
    try {
      return { ...(await readFolder(files, path, step)), path };
    } catch (error) {
      if (!(error instanceof ComFaceError)) throw error;
      // A bad sector is damage like any other, unless nothing else is left: then it is not for us to start over.
      if (errorCode(error) === 'EIO') unread = error;
      else if (error.code !== 'CORRUPT_FILE') throw error;
      newest ??= error;
      options.onWarning?.(`Passed over a damaged checkpoint: ${error.message}`);
    }
  }
  if (unread !== undefined) throw unread;
  if (newest === undefined) return null;
  throw new ComFaceError(
    'CORRUPT_FILE',
    `Expected a good checkpoint in ${show(parent)} but all are damaged; the newest: ${newest.message}`,
    {
      hint: 'Bring back a copy. To begin anew, move that folder away or choose another one for the run.',
      cause: newest,
    },
  );
}

/**
 * Loads one checkpoint folder. It may bear another name than it was saved under, but not that of another step.
 *
 * @throws ComFaceError CORRUPT_FILE when a file is missing or not what was saved, IO when it cannot be read.
 */
export async function loadCheckpoint(path: string): Promise<CheckpointState> {
  const step = /^step-(\d{8,})$/.exec(basename(path))?.[1];
  return readFolder(explained(disk), path, step === undefined ? undefined : Number(step));
}

function folderName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/** Steps that have a folder, good or not, in rising order. */
async function savedSteps(files: FileSystem, parent: string): Promise<number[]> {
  let names: string[];
  try {
    names = await files.readdir(parent);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
  const steps = names.filter((name) => /^step-\d{8,}$/.test(name)).map((name) => Number(name.slice(5)));
  return steps.filter((step) => names.includes(folderName(step))).sort((a, b) => a - b);
}

/** Makes `checkpoints` so that it is still there after a power loss, with every folder above that was missing. */
async function makeFolder(files: FileSystem, parent: string): Promise<void> {
  const runDir = dirname(parent);
  const topmost = await files.mkdir(parent);
  const highest = topmost === undefined ? runDir : dirname(topmost);
  let at = runDir;
  await files.syncDirectory(at);
  while (at !== highest) {
    at = dirname(at);
    await files.syncDirectory(at);
  }
}

async function writeFolder(
  files: FileSystem,
  path: string,
  contents: readonly (readonly [string, Uint8Array])[],
  left: Set<string>,
): Promise<void> {
  const temporary = temporaryName(path);
  await files.rm(temporary);
  try {
    await files.mkdir(temporary);
    for (const [name, bytes] of contents) await files.writeFile(join(temporary, name), bytes);
    await files.syncDirectory(temporary);
    await files.rename(temporary, path);
  } catch (error) {
    // The first error is the one to hear of; what cannot be removed now goes with the next save, or at the next start (lock.ts).
    await files.rm(temporary).catch(() => left.add(temporary));
    throw error;
  }
}

/** True when this very checkpoint is there; a damaged one is removed to make room. */
async function isSaved(files: FileSystem, path: string, manifest: Manifest): Promise<boolean> {
  // Nothing there, nothing to remove: by then it could be what another process has just saved, where a lock failed to keep it out.
  if (!(await files.readdir(dirname(path))).includes(basename(path))) return false;
  let found: Manifest;
  try {
    found = await readManifest(files, path, manifest.step);
    for (const name of tensorFiles) await readTensors(files, path, name, found);
  } catch (error) {
    if (!(error instanceof ComFaceError) || error.code !== 'CORRUPT_FILE') throw error;
    await files.rm(path);
    return false;
  }
  if (tensorFiles.every((name) => found.files[name].sha256 === manifest.files[name].sha256)) return true;
  throw new ComFaceError('INVALID_INPUT', `Expected no other checkpoint of step ${manifest.step} but found ${JSON.stringify(path)}`, {
    hint: 'Resume from it, move the later checkpoints of that run away, or choose an empty run folder.',
  });
}

/** Folders without a name of their own that could not be removed, by disk: a run that goes on after a failed save tries again with the next. */
const leftovers = new WeakMap<FileSystem, Set<string>>();

function leftOn(files: FileSystem): Set<string> {
  const left = leftovers.get(files) ?? new Set();
  leftovers.set(files, left);
  return left;
}

/** Old checkpoints lose their name first, so that a kill leaves none half removed under it. */
async function prune(files: FileSystem, parent: string, step: number, keep: number, left: Set<string>): Promise<void> {
  for (const temporary of left) {
    if (dirname(temporary) !== parent) continue; // of another run
    await files.rm(temporary);
    left.delete(temporary);
  }
  const steps = (await savedSteps(files, parent)).filter((saved) => saved <= step);
  for (const old of steps.slice(0, -keep)) {
    const path = join(parent, folderName(old));
    const temporary = temporaryName(path);
    await files.rm(temporary);
    await files.rename(path, temporary);
    left.add(temporary);
    await files.rm(temporary);
    left.delete(temporary);
  }
}

function temporaryName(path: string): string {
  return `${path}.tmp-${process.pid}`;
}

async function encodeFinite(tensors: ReadonlyMap<string, Tensor>): Promise<Uint8Array> {
  for (const [name, { dtype, data }] of tensors) {
    const at = dtype === 'F32' ? await firstNotFinite(data) : -1;
    if (at >= 0) {
      throw new ComFaceError('NOT_FINITE', `Expected finite numbers for \`${name}\` but received ${data[at]} at index ${at}`, {
        hint: 'Go on from the last checkpoint with a lower learning rate.',
      });
    }
  }
  const pieces = encodeInPieces(tensors);
  for (;;) {
    const piece = pieces.next();
    if (piece.done) return piece.value;
    await nextTurn();
  }
}

/** Numbers looked at, and bytes hashed, before others have the event loop: some tenths of a millisecond. */
const kNumbers = 2 ** 16;
const kBytes = 2 ** 17;

/** A plain loop: findIndex() takes six times as long. */
async function firstNotFinite(data: Float32Array): Promise<number> {
  for (let from = 0; from < data.length; from += kNumbers) {
    const end = Math.min(from + kNumbers, data.length);
    for (let i = from; i < end; i++) if (!Number.isFinite(data[i])) return i;
    await nextTurn();
  }
  return -1;
}

async function sha256(bytes: Uint8Array): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += kBytes) {
    hash.update(bytes.subarray(at, at + kBytes));
    await nextTurn();
  }
  return hash.digest('hex');
}

/** The manifest carries its own hash: a flipped bit in the seed would otherwise pass as another run. */
async function encodeManifest(manifest: Manifest): Promise<Uint8Array> {
  const encoder = new TextEncoder();
  let text: string;
  try {
    text = JSON.stringify(manifest);
  } catch (cause) {
    throw new ComFaceError('INVALID_INPUT', 'Expected JSON for `info` but received something else', {
      cause,
      hint: 'Write bigints as text.',
    });
  }
  return encoder.encode(`${JSON.stringify({ ...JSON.parse(text), sha256: await sha256(encoder.encode(text)) }, null, 2)}\n`);
}

const tensorFiles = ['weights.safetensors', 'optimizer.safetensors'] as const;

async function readFolder(files: FileSystem, path: string, step?: number): Promise<CheckpointState> {
  const manifest = await readManifest(files, path, step);
  const weights = await readTensors(files, path, 'weights.safetensors', manifest);
  const optimizer = await readTensors(files, path, 'optimizer.safetensors', manifest);
  return { step: manifest.step, weights, optimizer, info: manifest.info };
}

/** With a step, which a folder's name promises, the manifest has to agree. */
async function readManifest(files: FileSystem, folder: string, step?: number): Promise<Manifest> {
  const path = join(folder, 'manifest.json');
  const bytes = await readPart(files, path);
  if (bytes.length > kManifestBytes) throw corrupt(path, `at most ${kManifestBytes} bytes`, String(bytes.length));
  const { expected, body, text } = parseManifest(bytes, path);
  const actual = await sha256(new TextEncoder().encode(text));
  if (actual !== expected) throw corrupt(path, `SHA-256 ${actual}`, show(expected));
  if (body.format === 'comface-checkpoint' && Number.isSafeInteger(body.version) && (body.version as number) > kVersion) {
    throw new ComFaceError('INVALID_INPUT', `${path}: expected a checkpoint of version ${kVersion} but found version ${body.version}`, {
      hint: 'A later comface wrote it: update this one, or choose another run folder.',
    });
  }
  const manifest = manifestSchema.safeParse(body);
  if (!manifest.success) {
    const [issue] = manifest.error.issues;
    throw corrupt(path, `a checkpoint manifest of version ${kVersion}`, `${issue?.path.join('.')}: ${issue?.message}`);
  }
  if (step !== undefined && step !== manifest.data.step) throw corrupt(path, `step ${step}`, `step ${manifest.data.step}`);
  return manifest.data;
}

/** The manifest without its own hash, and the text that this hash is of. */
function parseManifest(bytes: Uint8Array, path: string): { expected: unknown; body: Record<string, unknown>; text: string } {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (typeof parsed !== 'object' || parsed === null) throw corrupt(path, 'a JSON object', show(parsed));
    const { sha256: expected, ...body } = parsed as Record<string, unknown>;
    return { expected, body, text: JSON.stringify(body) };
  } catch (cause) {
    // Also a RangeError: JSON.stringify calls itself for each level, JSON.parse does not.
    throw cause instanceof ComFaceError ? cause : corrupt(path, 'JSON', String(cause));
  }
}

async function readTensors(
  files: FileSystem,
  folder: string,
  name: (typeof tensorFiles)[number],
  manifest: Manifest,
): Promise<Map<string, Tensor>> {
  const path = join(folder, name);
  const bytes = await readPart(files, path);
  const expected = manifest.files[name];
  if (bytes.length !== expected.bytes) throw corrupt(path, `${expected.bytes} bytes`, String(bytes.length));
  const actual = await sha256(bytes);
  if (actual !== expected.sha256) throw corrupt(path, `SHA-256 ${expected.sha256}`, actual);
  return decodeSafetensors(bytes, path).tensors;
}

/** Missing is damage; not to be opened (a permission, too many files) is not. */
async function readPart(files: FileSystem, path: string): Promise<Uint8Array> {
  try {
    return await files.readFile(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(errorCode(error) ?? '')) throw corrupt(path, 'a file', 'none');
    throw error;
  }
}

function corrupt(path: string, expected: string, found: string): ComFaceError {
  return new ComFaceError('CORRUPT_FILE', `${path}: expected ${expected} but found ${found}`, {
    hint: 'Use another checkpoint: this one was damaged after it was saved, never finished, or written by another version.',
  });
}
