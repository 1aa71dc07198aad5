// Makes a set of shards out of anything that draws pictures by number. A shard that is finished is never made again, so a set that was
// interrupted goes on, and ends in the same bytes.
import { statfsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { ComFaceError, invalid, messageOf } from '../errors.js';
import { type GroupTable, isShardThere, kMostShards, type SetHeader, ShardWriter, shardName, writeSet } from './shards.js';

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
}

/** Pictures of each shard: whole groups. */
function shardsOf({ header: { alphas }, table, picturesOfShard }: SetPlan): number[] {
  const groups = table.subject.length;
  const each = Math.max(1, Math.floor(picturesOfShard / alphas.length));
  return Array.from({ length: Math.ceil(groups / each) }, (_, i) => Math.min(each, groups - i * each) * alphas.length);
}

/**
 * @param onProgress Called with the pictures that are there and how many were drawn by this call.
 * @throws ComFaceError IO when the disk is too small, which is looked at first, or cannot be written. Aborted: rejects with `signal.reason`.
 */
export async function makeSet(
  folder: string,
  plan: SetPlan,
  draw: Draw,
  { signal, onProgress }: { signal?: AbortSignal | undefined; onProgress: (done: number, drawn: number) => void },
): Promise<void> {
  const { header, table, chunk } = plan;
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
  await writing(folder, () => checkDisk(folder, left, total, draw));
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
        await writer.finish();
      } catch (error) {
        await writer.abandon();
        throw error;
      }
    });
  }
  signal?.throwIfAborted();
  await writing(folder, () => writeSet(folder, { ...header, shards }, table));
}

/** What goes wrong on the disk, with the folder's name and what to do. */
async function writing<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const isDisk = cause instanceof Error && 'syscall' in cause;
    if (!isDisk) throw cause;
    const hint = 'Check the free space and the permissions of the folder; the same call goes on with what is there.';
    throw new ComFaceError('IO', `Cannot write in ${folder}: ${messageOf(cause)}`, { hint, cause });
  }
}

async function checkDisk(folder: string, left: number, total: number, draw: Draw): Promise<void> {
  if (left === 0) return;
  const every = Math.max(1, Math.floor(total / kSamples));
  let bytes = 0;
  let samples = 0;
  for (let at = 0; at < total && samples < kSamples; at += every, samples++) bytes += (await draw(at, 1)).bytes.length;
  const { bavail, bsize } = statfsSync(folder); // as in shards.ts, no promise
  const [needed, free] = [(bytes / samples) * left, bavail * bsize];
  if (needed <= kShareOfDisk * free) return;
  throw new ComFaceError('IO', `The ${left} pictures need about ${gigabytes(needed)} in ${folder}, and ${gigabytes(free)} are free there`, {
    hint: 'Choose another disk, fewer pictures, a smaller size or a lower quality.',
  });
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toPrecision(3)} GB`;
