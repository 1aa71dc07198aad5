// Runs the measured scripts of the figures, each in a process of its own, and reads the JSON they print.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

export interface ChildEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Starts `script` of this folder and resolves when it ended. */
export function runChild(
  script: string,
  args: readonly (string | number)[],
  { flags = [], env = {} }: { flags?: string[]; env?: object } = {},
) {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(process.execPath, [...flags, file, ...args.map(String)], { env: { ...process.env, ...env } });
  onTestFinished(() => void child.kill('SIGKILL')); // one that hangs must not outlive its test
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  return new Promise<ChildEnd>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/**
 * So that a leak can be told from the habits of allocators: V8's nursery grows by 16 MiB when it likes, and glibc keeps what is freed after it
 * has once freed a large block.
 */
const steady = {
  flags: ['--max-semi-space-size=2'],
  env: { MALLOC_MMAP_THRESHOLD_: String(2 ** 17), MALLOC_TRIM_THRESHOLD_: String(2 ** 17) },
};

/** What `script` measured. `isSteady`: with the memory that is not in use given back. */
export async function measured<T>(script: string, args: readonly (string | number)[], { isSteady = false } = {}): Promise<T> {
  const { flags, env } = isSteady ? steady : { flags: [], env: {} };
  const { code, signal, stdout, stderr } = await runChild(script, args, { flags: ['--expose-gc', ...flags], env });
  if (code !== 0) throw new Error(`${script} ${args.join(' ')} ended with ${signal ?? code}: ${stderr.slice(-2000)}`);
  return JSON.parse(stdout) as T;
}
