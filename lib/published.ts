// Whether prebuilt binaries are those that were published: SHA256SUMS lies beside them. What was built here has none, and nothing to compare with.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from './errors.js';

/** What is wrong with the files of a folder of binaries, a sentence each. */
export function damagesOf(folder: string): string[] {
  const list = join(folder, 'SHA256SUMS');
  if (!existsSync(list)) return [];
  return readFileSync(list, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, hash, name] = /^([0-9a-f]{64}) {2}(\S+)$/.exec(line) ?? [];
      if (hash === undefined || name === undefined) return [];
      const file = join(folder, name);
      if (!existsSync(file)) return [`${file} is missing`];
      try {
        return createHash('sha256').update(readFileSync(file)).digest('hex') === hash ? [] : [`${file} is not as it was published`];
      } catch (error) {
        return [`${file} cannot be read: ${messageOf(error)}`];
      }
    });
}
