// Result files: the old one or the new one, never half of one.
import { ComFaceError } from '../errors.js';
import { disk, explained } from '../train/files.js';

/** Writes a file by way of another name. @throws ComFaceError IO naming the file. */
export async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
  const files = explained(disk);
  const part = `${file}.tmp-${process.pid}`;
  try {
    await files.writeFile(part, bytes);
    await files.rename(part, file);
  } catch (error) {
    await files.rm(part).catch(() => undefined);
    if (!(error instanceof ComFaceError)) throw error;
    throw new ComFaceError('IO', error.message.replace(part, file), {
      ...(error.hint !== undefined && { hint: error.hint }),
      cause: error.cause,
    });
  }
}
