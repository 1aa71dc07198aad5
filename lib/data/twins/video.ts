// A video file written by ffmpeg, a program of its own: frames go in as RGB bytes. Every frame is a JPEG (MJPEG in AVI), so that any ffmpeg can
// write and read it.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { ComFaceError } from '../../errors.js';

/** What ffmpeg's last words may be in a message. */
const kMostWords = 300;

/** @throws ComFaceError INVALID_INPUT where there is no ffmpeg. */
export function checkFfmpeg(): void {
  const { error, status } = spawnSync('ffmpeg', ['-version'], { stdio: 'ignore' });
  if (error === undefined && status === 0) return;
  throw new ComFaceError('INVALID_INPUT', 'Expected a program `ffmpeg` on the PATH for `video` but found none that runs', {
    hint: 'Install it (Debian, Ubuntu: apt-get install ffmpeg), or leave `video` out: frames are then JPEG files.',
  });
}

/** A video that is being written. */
export class VideoFile {
  readonly #path: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #words = '';

  /** @param size Edge of the frames in pixels. */
  constructor(path: string, size: number, framesASecond: number) {
    this.#path = path;
    const input = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', `${size}x${size}`, '-r', String(framesASecond), '-i', 'pipe:0'];
    // Bitexact: the same bytes each time.
    const output = ['-c:v', 'mjpeg', '-q:v', '2', '-pix_fmt', 'yuvj420p', '-threads', '1', '-fflags', '+bitexact', '-flags:v', '+bitexact'];
    const words = ['-hide_banner', '-loglevel', 'error', '-nostdin', '-y', ...input, ...output, '-f', 'avi', `file:${path}`];
    this.#child = spawn('ffmpeg', words, { stdio: ['pipe', 'ignore', 'pipe'] });
    this.#child.stderr!.on('data', (text) => {
      this.#words = (this.#words + text).slice(-kMostWords);
    });
    this.#child.stdin!.on('error', () => undefined); // it has ended: its status says why
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', ({ message }) => {
        this.#words = message;
        resolve(null);
      });
      this.#child.on('close', resolve);
    });
  }

  /** Writes frames, size x size x 3 bytes each. @throws ComFaceError IO when ffmpeg fails. */
  async add(frames: Uint8Array): Promise<void> {
    const written = new Promise<'written'>((resolve) => this.#child.stdin!.write(frames, () => resolve('written')));
    if ((await Promise.race([written, this.#ended])) !== 'written') throw this.#failure();
  }

  /** Waits for the whole file. @throws ComFaceError IO when ffmpeg fails. */
  async end(): Promise<void> {
    this.#child.stdin!.end();
    if ((await this.#ended) !== 0) throw this.#failure();
  }

  /** Ends ffmpeg if it still runs. */
  abandon(): void {
    if (this.#child.exitCode === null) this.#child.kill('SIGKILL');
  }

  #failure(): ComFaceError {
    return new ComFaceError('IO', `ffmpeg cannot write ${this.#path}: ${this.#words.trim() || 'it ended early'}`, {
      hint: 'Check the free space, or leave `video` out: frames are then JPEG files.',
    });
  }
}
