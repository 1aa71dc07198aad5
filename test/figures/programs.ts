// Builds what test/native holds (libfaulty.so, the drivers without Node, the fuzz targets) and says where it is.
// The build is the package's own: native/build.mjs --tests. Two test files may ask at once, so they take turns.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const built = new Map<string, string>();

/**
 * The folder with the built programs.
 * @param sanitize What native/build.mjs takes for --sanitize; '' for none.
 * @throws with the build's own words when it fails.
 */
export function testPrograms(sanitize = ''): string {
  const known = built.get(sanitize);
  if (known !== undefined) return known;
  mkdirSync(join(root, 'build'), { recursive: true });
  const build = [process.execPath, 'native/build.mjs', '--tests', '--jobs', '2', ...(sanitize ? ['--sanitize', sanitize] : [])];
  const { status, stdout, stderr, error } = spawnSync('flock', ['build/tests.lock', ...build], { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${build.slice(1).join(' ')}: ${error?.message ?? stdout + stderr}`);
  const folder = join(root, 'build', sanitize ? `tests-sanitize-${sanitize.replaceAll(',', '-')}` : 'tests');
  built.set(sanitize, folder);
  return folder;
}

/** Path of the backend that fails on demand; test/native/faulty.cc says how to ask for faults. */
export const faultyLibrary = (): string => join(testPrograms(), 'libfaulty.so');

export interface Outcome {
  /** Of stdout and stderr, together and no more than the end of it. */
  text: string;
  /** Exit code, or the name of the signal that ended it. */
  status: number | string | null;
}

/** Runs a program to its end without blocking this process. */
export function outcomeOf(program: string, args: string[], env: NodeJS.ProcessEnv = process.env, timeoutMs = 0): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs, killSignal: 'SIGKILL' });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        text = (text + chunk).slice(-1_000_000);
      });
    }
    child.on('error', reject).on('close', (status, signal) => resolve({ text, status: signal ?? status }));
  });
}
