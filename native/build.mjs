// Builds the add-on and its backend libraries with cmake-js and puts them in build/Release (or build/Debug), where node-gyp-build looks first.
//   node native/build.mjs [--debug] [--sanitize address] [--cuda auto|on|off] [--gpu] [--clean] [--jobs N]
// The CUDA backend is built when nvcc and the headers of cuDNN and cuBLAS are there; with --cuda on (COMFACE_CUDA=on) it is an error when not.
// With --gpu it also builds what runs on a GPU beside the package (test/native/gpu), into build/Release/gpu; that needs CUDA.
// With --tests it builds what test/native holds instead, into build/tests (build/tests-sanitize-thread, ...): libfaulty.so, a backend that
// fails on demand, and programs that drive the core without Node.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = require('../package.json');
const { values: options } = parseArgs({
  options: {
    debug: { type: 'boolean', default: false },
    sanitize: { type: 'string', default: '' },
    cuda: { type: 'string', default: process.env.COMFACE_CUDA || 'auto' },
    gpu: { type: 'boolean', default: false },
    tests: { type: 'boolean', default: false },
    clean: { type: 'boolean', default: false },
    'list-sources': { type: 'boolean', default: false },
    config: { type: 'string' },
    out: { type: 'string' },
    jobs: { type: 'string', default: process.env.JOBS ?? '' },
  },
});

/** Every file that the build depends on, relative to the package. */
function sources() {
  return readdirSync(join(root, 'native'))
    .filter((name) => name !== 'build')
    .flatMap((name) => {
      const path = join('native', name);
      if (!statSync(join(root, path)).isDirectory()) return [path];
      return readdirSync(join(root, path), { recursive: true, encoding: 'utf8' }).map((file) => join(path, file));
    })
    .filter((file) => /\.(cc|cu|cuh|h|txt|mjs)$/.test(file));
}

function fail(text) {
  console.error(`\n${manifest.name}: ${text}\n`);
  process.exit(1);
}

function run(what, command, args, env = process.env) {
  const { error, status } = spawnSync(command, args, { cwd: root, env, stdio: 'inherit' });
  if (error) fail(`${what}: ${error.message}`);
  if (status !== 0) fail(`${what} failed; the reason is above.`);
}

const compiler = () => process.env.CXX ?? 'c++';
const runs = (tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).status === 0;
/** Whether the compiler, where there is one, sees this header. With CMAKE_PREFIX_PATH only CMake knows. */
const sees = (header, rule = '1') =>
  process.env.CMAKE_PREFIX_PATH !== undefined ||
  spawnSync(compiler(), ['-E', '-x', 'c++', '-'], {
    input: `#include <${header}>\n#if !(${rule})\n#error no\n#endif\n`,
    stdio: ['pipe', 'ignore', 'ignore'],
  }).status === 0;
const installed = (name) => {
  try {
    require.resolve(`${name}/package.json`);
    return true;
  } catch {
    return false;
  }
};

/** What a build needs, and the Debian package or npm package that brings it. */
const needs = [
  { what: 'a C++20 compiler (c++, or CXX)', debian: 'build-essential', isThere: () => runs(compiler()) },
  { what: 'CMake 3.22 or newer', debian: 'cmake', isThere: () => runs('cmake') },
  { what: 'Ninja or make', debian: 'ninja-build', isThere: () => runs('ninja') || runs('make') },
  {
    what: 'oneDNN 2 with its headers',
    debian: 'libdnnl-dev',
    isThere: () => sees('oneapi/dnnl/dnnl_version.h', 'DNNL_VERSION_MAJOR == 2'),
  },
  { what: 'TurboJPEG with its header', debian: 'libturbojpeg0-dev', isThere: () => sees('turbojpeg.h') },
  ...['cmake-js', 'node-addon-api'].map((name) => ({ what: `the npm package ${name}`, npm: name, isThere: () => installed(name) })),
];

/** Ends with everything that is missing at once, and the commands that install it. */
function checkNeeds() {
  const missing = needs.filter(({ isThere }) => !isThere());
  if (missing.length === 0) return;
  const debian = missing.flatMap((need) => need.debian ?? []).join(' ');
  const npm = missing.flatMap(({ npm: name }) => (name ? [`${name}@${manifest.peerDependencies[name]}`] : [])).join(' ');
  const lines = missing.map(({ what }) => `\n  - ${what}`);
  if (debian) lines.push(`\n  Debian 12: apt-get install ${debian}`);
  if (npm) lines.push(`\n  npm install --save-dev ${npm}`);
  fail(`building from source needs what is not here:${lines.join('')}`);
}

/** A clang++ that has libFuzzer, which gcc has not. */
function fuzzingCompiler() {
  const names = [process.env.CXX ?? 'clang++', 'clang++', ...[20, 19, 18, 17, 16, 15, 14].map((version) => `clang++-${version}`)];
  const works = (name) =>
    spawnSync(name, ['-fsanitize=fuzzer', '-x', 'c++', '-', '-o', '/dev/null'], {
      input: 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }',
      stdio: ['pipe', 'ignore', 'ignore'],
    }).status === 0;
  return names.find(works) ?? fail('clang++ with libFuzzer was not found.\n  Debian, Ubuntu: apt-get install clang libclang-rt-dev');
}

/** A folder like site-packages/nvidia with the headers of cuDNN: chosen, brought by scripts/headers.mjs, or a Python's. */
function wheelFolder() {
  const folders = [process.env.NVIDIA_WHEEL_ROOT, join(root, 'native/build/nvidia')];
  const { stdout } = spawnSync('python3', ['-c', 'import sys; print("\\n".join(sys.path))'], { encoding: 'utf8' });
  for (const folder of stdout?.split('\n') ?? []) folders.push(folder && join(folder, 'nvidia'));
  return folders.find((folder) => folder && existsSync(join(folder, 'cudnn/include/cudnn.h'))) ?? '';
}

if (!['auto', 'on', 'off'].includes(options.cuda)) fail(`Expected auto, on or off for --cuda but received '${options.cuda}'.`);
if (options['list-sources']) {
  console.log(sources().join('\n'));
  process.exit(0);
}
if (options.clean)
  for (const folder of ['build', 'native/build', 'prebuilds']) rmSync(join(root, folder), { recursive: true, force: true });

// Test programs are optimized even under a sanitizer: they do in seconds what otherwise takes minutes.
const config =
  options.config ?? (options.sanitize && options.tests ? 'RelWithDebInfo' : options.debug || options.sanitize ? 'Debug' : 'Release');
const parts = [options.tests ? 'tests' : '', options.sanitize ? `sanitize-${options.sanitize.replaceAll(',', '-')}` : ''].filter(Boolean);
const tree = join('native/build', parts.join('-') || config.toLowerCase());
const out = resolve(root, options.out ?? join('build', parts.join('-') || config));
if (options.sanitize.includes('fuzzer')) process.env.CXX = fuzzingCompiler();
checkNeeds();
const cmakeJs = require.resolve('cmake-js/bin/cmake-js');
const args = ['-d', 'native', '-O', tree, '-B', config, '-l', 'warn', `--CDCOMFACE_SANITIZE=${options.sanitize}`];
args.push(
  `--CDCOMFACE_TESTS=${options.tests ? 'ON' : 'OFF'}`,
  `--CDCOMFACE_CUDA=${(options.sanitize ? 'off' : options.gpu ? 'on' : options.cuda).toUpperCase()}`,
  `--CDCOMFACE_GPU=${options.gpu ? 'ON' : 'OFF'}`,
);
args.push(`--CDNVIDIA_WHEEL_ROOT=${wheelFolder()}`);
// Both steps: 'cmake-js build' alone configures only an empty tree, so changed options would be ignored.
run('CMake', process.execPath, [cmakeJs, 'configure', ...args]);
run('The build', process.execPath, [cmakeJs, 'build', ...args, ...(options.jobs ? ['-p', options.jobs] : [])]);
mkdirSync(out, { recursive: true });
run('The copy', 'cmake', ['--install', tree, '--config', config, '--prefix', out]);
if (!options.tests) cpSync(join(root, tree, 'compile_commands.json'), join(root, 'native/build/compile_commands.json')); // for clangd
