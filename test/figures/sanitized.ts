// Child processes on an add-on built with ASan and UBSan, running our TypeScript: Node 20 cannot run it as it is, and dist/ may be older.
// Builds what is missing or stale, once, also when two test files ask at the same time. The first build takes most of a minute.
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const kSanitizers = 'address,undefined';
const addon = join(root, 'build', `sanitize-${kSanitizers.replaceAll(',', '-')}`, 'comface.node');
let prepared: Promise<{ folder: string; preload: string }> | undefined;

async function command(what: string, args: readonly string[]): Promise<void> {
  const { status, output } = await runProcess('flock', ['build/sanitized.lock', process.execPath, ...args], process.env);
  if (status !== 0) throw new Error(`${what}: ${output}`);
}

interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  /** Standard output. */
  text: string;
  /** Both streams. */
  output: string;
}

function runProcess(file: string, args: readonly string[], env: NodeJS.ProcessEnv, timeoutMs = 600_000): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: root, env, timeout: timeoutMs, killSignal: 'SIGKILL' });
    let [text, output] = ['', ''];
    const add = (chunk: Buffer) => {
      output += chunk;
      return chunk;
    };
    child.stdout.on('data', (chunk: Buffer) => {
      text += add(chunk);
    });
    child.stderr.on('data', add);
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, text, output }));
  });
}

/** The sanitizers' runtimes, which have to be in the process before Node is. */
function runtimes(): string {
  const paths = ['libasan.so', 'libubsan.so'].map((name) =>
    spawnSync(process.env.CXX ?? 'c++', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout?.trim(),
  );
  if (paths.some((path) => !path?.includes('/'))) throw new Error('libasan and libubsan were not found: apt-get install build-essential');
  return paths.join(':');
}

async function prepare(): Promise<{ folder: string; preload: string }> {
  const folder = join(root, 'build/figures');
  mkdirSync(folder, { recursive: true });
  await command('The build with sanitizers', ['native/build.mjs', '--sanitize', kSanitizers, '--jobs', '2']);
  await command('The build of the children', [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'test/figures/children']);
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json')); // the version, and that these are modules
  return { folder, preload: runtimes() };
}

/**
 * Runs test/figures/children/NAME.ts under ASan and UBSan.
 * @param options Of the sanitizers, over ours: { ASAN_OPTIONS: 'detect_leaks=1' }.
 */
export async function runSanitized(
  name: string,
  args: readonly string[],
  { env = {}, flags = [], timeoutMs }: { env?: Record<string, string>; flags?: readonly string[]; timeoutMs?: number } = {},
): Promise<Ended & { reports: string[] }> {
  prepared ??= prepare();
  const { folder, preload } = await prepared;
  const settings = {
    ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
    ...env,
    LD_PRELOAD: preload,
    COMFACE_NATIVE: addon,
  };
  const file = join(folder, 'test/figures/children', `${name}.js`);
  const ended = await runProcess(process.execPath, [...flags, file, ...args], { ...process.env, ...settings }, timeoutMs);
  const reports = ended.output.split('\n').filter((line) => /runtime error:|ERROR: \w+Sanitizer/.test(line));
  return { ...ended, reports };
}
