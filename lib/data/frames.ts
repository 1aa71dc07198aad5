// Frames of videos, taken out by the user's own ffmpeg: a folder for each video, which is there only when it is whole, so that a call that was stopped
// goes on behind the last.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { ComFaceError, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';
import { readSmall } from './files.js';
import { isWritten, partOf, writing } from './target.js';

/** A video, and the name of the folder for its frames. */
export interface Video {
  name: string;
  file: string;
}

/** How far the taking of frames is. */
export interface FramesProgress {
  /** Name of the video under way. */
  name: string;
  /** Videos that are done. */
  done: number;
  /** Videos in all. */
  total: number;
}

/** In a folder of frames: which video they are of. */
export const kSourceName = 'source.txt';
const kMostSource = 4096;
const kSaidLetters = 2000;

/**
 * Takes all frames out of videos: `folder/NAME/00001.jpg` and so on, each frame once, in their order.
 *
 * @throws ComFaceError DEVICE_UNAVAILABLE with the command where ffmpeg is not on the PATH, IO with its words where it fails, INVALID_INPUT where
 * the folder has frames of other videos. Aborted: rejects with `signal.reason`; the same call again goes on.
 */
export async function takeFrames(
  videos: readonly Video[],
  folder: string,
  { signal, onFrames }: { signal?: AbortSignal | undefined; onFrames?: ((progress: FramesProgress) => void) | undefined } = {},
): Promise<void> {
  await writing(folder, async () => {
    await makeFolder(folder);
    for (const name of readdirSync(folder))
      if (/^SN\d{3}\..*\.part$/.test(name) && !isWritten(name)) rmSync(join(folder, name), { recursive: true, force: true });
    for (const [done, video] of videos.entries()) {
      signal?.throwIfAborted();
      if (isThere(video, folder)) continue;
      onFrames?.({ name: video.name, done, total: videos.length });
      await takeFrom(video, folder, signal);
    }
  });
}

const sourceOf = ({ file }: Video): string => `${basename(file)}, ${statSync(file).size} bytes\n`;

/** Whether the frames of this video are there; those of another one under its name would be somebody else. */
function isThere(video: Video, folder: string): boolean {
  const own = join(folder, video.name);
  if (!existsSync(own)) return false;
  if (readSmall(join(own, kSourceName), kMostSource).toString() === sourceOf(video)) return true;
  throw new ComFaceError('INVALID_INPUT', `Expected in ${own} the frames of ${sourceOf(video).trim()} but found others`, {
    hint: 'Name another folder for `frames`, or remove this one.',
  });
}

async function takeFrom(video: Video, folder: string, signal: AbortSignal | undefined): Promise<void> {
  const part = partOf(join(folder, video.name));
  try {
    mkdirSync(part);
    // As it is: ffmpeg would otherwise leave out and double frames until the rate is even. That option was renamed in ffmpeg 5.1.
    let failure = await ffmpeg(frameArguments(video.file, 'fps_mode'), part, signal);
    if (failure?.includes('fps_mode')) failure = await ffmpeg(frameArguments(video.file, 'vsync'), part, signal);
    if (failure !== undefined)
      throw new ComFaceError('IO', `ffmpeg cannot take the frames out of ${video.file}: ${failure}`, {
        hint: 'Check that the video plays to its end, and the free space; the same call goes on with the videos that are left.',
      });
    writeFileSync(join(part, kSourceName), sourceOf(video));
    try {
      renameSync(part, join(folder, video.name));
    } catch (cause) {
      if (!isThere(video, folder)) throw cause; // else another call was first
    }
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
}

/** For the frames 00001.jpg and so on, in the folder that it runs in. */
const frameArguments = (file: string, rateOption: 'fps_mode' | 'vsync'): string[] => [
  ...['-nostdin', '-hide_banner', '-loglevel', 'error', '-xerror', '-y'],
  // Nothing but this file: what looks like a video may name others.
  ...['-protocol_whitelist', 'file', '-f', 'avi', '-i', `file:${file}`],
  ...['-map', '0:v:0', `-${rateOption}`, 'passthrough', '-q:v', '2', '-start_number', '1', '%05d.jpg'],
];

/** The command that takes the frames out of a video, for a person to type. */
export const frameCommand = (file: string, folder: string): string =>
  `mkdir -p ${quoted(folder)} && ffmpeg -nostdin -i ${quoted(file)} -fps_mode passthrough -q:v 2 -start_number 1 ${quoted(join(folder, '%05d.jpg'))}`;

const quoted = (word: string): string => (/^[\w./%-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** @returns What went wrong, or nothing. @throws ComFaceError DEVICE_UNAVAILABLE where there is none. */
function ffmpeg(args: readonly string[], cwd: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  return new Promise((done, fail) => {
    const child = spawn('ffmpeg', args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    const stop = () => child.kill('SIGKILL');
    signal?.addEventListener('abort', stop, { once: true });
    child.stderr.on('data', (text: Buffer) => {
      said = (said + text.toString()).slice(-kSaidLetters);
    });
    child.on('error', (cause: NodeJS.ErrnoException) => {
      signal?.removeEventListener('abort', stop);
      fail(cause.code === 'ENOENT' ? noFfmpeg(args, cwd, cause) : cause);
    });
    child.on('exit', () => signal?.aborted && child.stderr.destroy()); // what it has started may hold it open
    child.on('close', (code, killed) => {
      signal?.removeEventListener('abort', stop);
      if (signal?.aborted) return fail(signal.reason);
      const last = said.trim().split('\n').at(-1);
      done(code === 0 ? undefined : `${last || 'it says nothing'} (${killed ?? `code ${code}`})`);
    });
  });
}

function noFfmpeg(args: readonly string[], cwd: string, cause: unknown): ComFaceError {
  const file = args[args.indexOf('-i') + 1]!.replace(/^file:/, '');
  const name = basename(cwd).split('.')[0]!;
  const command = frameCommand(file, join(resolve(file, '..', '..'), 'Frames_LeftCamera', name));
  return new ComFaceError(
    'DEVICE_UNAVAILABLE',
    `Expected ffmpeg on the PATH, to take frames out of videos, but found none: ${messageOf(cause)}`,
    {
      hint: `Install it (apt-get install ffmpeg), or bring the frames. For each subject: ${command}`,
      cause,
    },
  );
}
