// Makes a set of shards out of anything that draws pictures by number. A shard that is finished is never made again, so a set that was
// interrupted goes on, and ends in the same bytes.
import { statfsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { ComFaceError, invalid, sizeText } from '../errors.js';
import { type GroupTable, isShardThere, kMostShards, type SetHeader, ShardWriter, shardName, writeSet } from './shards.js';
import { writing } from './target.js';

/** Of the free space that a set may take: file systems want some for themselves. */
const kShareOfDisk = 0.95;
const kSamples = 16;

/** Pictures one after the other, with the size and the CRC-32C of each. */
export interface Encoded {
  bytes: Uint8Array;
  sizes: readonly number[];
  crcs: readonly number[];
}

/** What draws: pictures `from` to `from + count` of the set, the same bytes each time. */
export type Draw = (from: number, count: number) => Promise<Encoded>;

export interface SetPlan {
  header: Omit<SetHeader, 'shards'> & { alphas: readonly number[] };
  table: GroupTable;
  /** At most, but for a group that has more. */
  picturesOfShard: number;
  /** Pictures drawn at once. */
  chunk: number;
  /** Pictures that are drawn to see how much room all will take. @default 16 */
  samples?: number;
}

interface MakeOptions {
  signal?: AbortSignal | undefined;
  onDisk?: ((sizes: DiskSizes) => void) | undefined;
  /** Called before anything gets its name; throws when it may not. */
  check: () => void;
  /** Called with the pictures that are there and how many were drawn by this call. */
  onProgress: (done: number, drawn: number) => void;
}

/** Pictures of each shard: whole groups. */
function shardsOf({ header: { alphas }, table, picturesOfShard }: SetPlan): number[] {
  const groups = table.subject.length;
  const each = Math.max(1, Math.floor(picturesOfShard / alphas.length));
  return Array.from({ length: Math.ceil(groups / each) }, (_, i) => Math.min(each, groups - i * each) * alphas.length);
}

/**
 * @throws ComFaceError IO when the disk is too small, which is looked at first, or cannot be written. Aborted: rejects with `signal.reason`.
 */
export async function makeSet(
  folder: string,
  plan: SetPlan,
  draw: Draw,
  { signal, onDisk, check, onProgress }: MakeOptions,
): Promise<void> {
  const { header, table, chunk, samples } = plan;
  const shards = shardsOf(plan);
  if (shards.length > kMostShards) throw invalid('shardBytes', `at most ${kMostShards} shards`, shards.length, 'Choose larger ones.');
  const names = new Set(await writing(folder, () => readdir(folder)));
  const missing: { index: number; first: number; count: number }[] = [];
  let first = 0;
  for (const [index, count] of shards.entries()) {
    const isThere = names.has(shardName(index)) && (await writing(folder, () => isShardThere(folder, index, header, first, count)));
    if (!isThere) missing.push({ index, first, count });
    first += count;
  }
  const total = first;
  let left = missing.reduce((sum, { count }) => sum + count, 0);
  await writing(folder, () => checkDisk(folder, left, total, async (at) => (await draw(at, 1)).bytes.length, onDisk, samples));
  let drawn = 0;
  for (const { index, first: from, count } of missing) {
    await writing(folder, async () => {
      const writer = await ShardWriter.create(folder, index, header, from, count);
      try {
        for (let at = 0; at < count; at += chunk) {
          signal?.throwIfAborted();
          const some = Math.min(chunk, count - at);
          await writer.add(await draw(from + at, some));
          drawn += some;
          left -= some;
          onProgress(total - left, drawn);
        }
        check();
        await writer.finish();
      } catch (error) {
        await writer.abandon();
        throw error;
      }
    });
  }
  signal?.throwIfAborted();
  check();
  await writing(folder, () => writeSet(folder, { ...header, shards }, table));
}

/** Room on the disk, in bytes. */
export interface DiskSizes {
  /** Bytes that what is still to be written will take, about. */
  neededBytes: number;
  /** Bytes that are free there. */
  freeBytes: number;
}

/**
 * Looks at the disk before anything is written.
 *
 * @param left Pictures still to be written, of `total`.
 * @param sizeOf Bytes that one of them will take.
 * @param most Pictures whose size is asked for.
 * @throws ComFaceError IO where they will not find room.
 */
export async function checkDisk(
  folder: string,
  left: number,
  total: number,
  sizeOf: (at: number) => Promise<number>,
  onDisk: ((sizes: DiskSizes) => void) | undefined,
  most = kSamples,
): Promise<void> {
  if (left === 0) return;
  const every = Math.max(1, Math.floor(total / most));
  let bytes = 0;
  let samples = 0;
  for (let at = 0; at < total && samples < most; at += every, samples++) bytes += await sizeOf(at);
  const { bavail, bsize } = statfsSync(folder); // as in shards.ts, no promise
  const sizes = { neededBytes: Math.round((bytes / samples) * left), freeBytes: bavail * bsize };
  onDisk?.(sizes);
  if (sizes.neededBytes <= kShareOfDisk * sizes.freeBytes) return;
  const [needed, free] = [sizeText(sizes.neededBytes), sizeText(sizes.freeBytes)];
  throw new ComFaceError('IO', `The ${left} pictures need about ${needed} in ${folder}, and ${free} are free there`, {
    hint: 'Choose another disk, fewer pictures, a smaller size or a lower quality.',
  });
}
