// @ts-check
// Brings a clone to the point where it runs: system packages, npm packages, native build, TypeScript build. Plain node, no dependency.
// Runs before demo, test and bench, so with nothing to do it only hashes the sources and says nothing. What it did is kept in build/stamp.json.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const logFile = join(root, 'build/bootstrap.log');
const stampFile = join(root, 'build/stamp.json');
const packages = ['build-essential', 'cmake', 'ninja-build', 'libdnnl-dev', 'libturbojpeg0-dev'];

/** Progress is not a result: it goes to standard error. @param {string} text */
function say(text) {
  console.error(`bootstrap: ${text}`);
}

/** @param {string} text @returns {never} */
function fail(text) {
  say(text);
  process.exit(1);
}

/**
 * Runs a command quietly; its output goes to build/bootstrap.log.
 * @param {string} command @param {readonly string[]} args @param {NodeJS.ProcessEnv} [env]
 */
function attempt(command, args, env = process.env) {
  const result = spawnSync(command, args, { cwd: root, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 28 });
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}${result.error ? `${result.error.message}\n` : ''}`;
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(logFile, `$ ${command} ${args.join(' ')}\n${output}`);
  return { ok: result.status === 0, output };
}

/**
 * Says what it does, does it, and on failure shows the end of the output and what to do.
 * @param {string} what @param {string} command @param {readonly string[]} args @param {string} advice @param {NodeJS.ProcessEnv} [env]
 */
function step(what, command, args, advice, env) {
  say(`${what} ...`);
  const started = performance.now();
  const { ok, output } = attempt(command, args, env);
  if (ok) return say(`  done in ${((performance.now() - started) / 1000).toFixed(0)} s`);
  console.error(output.trimEnd().split('\n').slice(-40).join('\n'));
  fail(`this failed: ${command} ${args.join(' ')}\n  ${advice}\n  All of its output: ${logFile}`);
}

/** @param {string} tool @param {readonly string[]} args */
function outputOf(tool, ...args) {
  const { status, stdout } = spawnSync(tool, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? stdout.trim() : undefined;
}

/** Hash of names and contents. Times of change would differ after every checkout. @param {readonly string[]} paths files and folders */
function hashOf(paths) {
  const hash = createHash('sha256').update(
    `${process.platform} ${process.arch} ${process.env.CXX ?? ''} ${process.env.COMFACE_CUDA ?? ''}`,
  );
  for (const path of paths.flatMap(filesIn)) hash.update(`\n${path}\n`).update(readFileSync(join(root, path)));
  return hash.digest('hex');
}

/** @param {string} path @returns {string[]} */
function filesIn(path) {
  if (path === 'native/build' || !existsSync(join(root, path))) return [];
  if (!statSync(join(root, path)).isDirectory()) return [path];
  return readdirSync(join(root, path))
    .sort()
    .flatMap((name) => filesIn(`${path}/${name}`));
}

/** @type {Record<string, string>} */
let stamp = {};
try {
  stamp = JSON.parse(readFileSync(stampFile, 'utf8'));
} catch {} // none yet, or half written: everything is checked again

/** @param {string} name @param {string} value */
function mark(name, value) {
  stamp[name] = value;
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(`${stampFile}.${process.pid}`, JSON.stringify(stamp));
  renameSync(`${stampFile}.${process.pid}`, stampFile);
}

/** @param {string} path */
const timeOf = (path) => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  fail(`node ${process.versions.node} is too old: ComFace needs 20.19 or newer (https://nodejs.org, or nvm install 22)`);
}

/** What a native build lacks, in words. */
function missingTools() {
  const missing = [];
  const cmake = outputOf('cmake', '--version')?.match(/version (\d+)\.(\d+)/);
  if (!cmake) missing.push('cmake');
  else if (Number(cmake[1]) * 100 + Number(cmake[2]) < 322) missing.push(`cmake 3.22 (here: ${cmake[1]}.${cmake[2]})`);
  if (!outputOf('ninja', '--version') && !outputOf('make', '--version')) missing.push('ninja or make');
  const compiler = process.env.CXX ?? 'c++';
  const description = outputOf(compiler, '--version');
  const version = Number.parseInt(outputOf(compiler, '-dumpversion') ?? '0', 10);
  if (description === undefined) missing.push(`a C++ compiler (${compiler})`);
  else if (/g\+\+|GCC|Free Software/.test(description) && version < 12) missing.push(`g++ 12 (${compiler} is ${version}; set CXX)`);
  const prefixes = [...(process.env.CMAKE_PREFIX_PATH ?? '').split(delimiter).filter(Boolean), '/usr', '/usr/local'];
  const has = (/** @type {string} */ header) => prefixes.some((prefix) => existsSync(join(prefix, 'include', header)));
  if (!has('oneapi/dnnl/dnnl.hpp')) missing.push('oneDNN (dnnl.hpp)');
  if (!has('turbojpeg.h')) missing.push('libjpeg-turbo (turbojpeg.h)');
  return missing;
}

function ensureTools() {
  const missing = missingTools();
  if (missing.length === 0) return;
  const list = missing.join(', ');
  if (!existsSync('/etc/debian_version') || !outputOf('apt-get', '--version')) {
    fail(`the native build needs what is missing here: ${list}.\n  Install it with your system's package manager, then run this again.`);
  }
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...packages];
  const isRoot = process.getuid?.() === 0;
  if (!isRoot && outputOf('sudo', '-n', 'true') === undefined) {
    fail(
      `the native build needs what is missing here: ${list}. Run this, then try again:\n  sudo apt-get update && sudo ${install.join(' ')}`,
    );
  }
  say(`missing: ${list}`);
  const as = isRoot ? ['env'] : ['sudo', '-n', 'env'];
  const apt = [...as.slice(1), 'DEBIAN_FRONTEND=noninteractive'];
  // A broken third-party source fails the update and may still leave what is needed: the install decides.
  attempt(/** @type {string} */ (as[0]), [...apt, 'apt-get', 'update']);
  const advice = 'Check the network and /etc/apt/sources.list, or install these packages by hand.';
  step(`installing ${packages.join(' ')} with apt-get (may take a minute)`, /** @type {string} */ (as[0]), [...apt, ...install], advice);
  const still = missingTools();
  if (still.length > 0) fail(`installed, but still missing: ${still.join(', ')}`);
}

function ensureModules() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const installed = 'node_modules/.package-lock.json';
  const current = () => `${lock} ${timeOf(installed)}`;
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const names = Object.keys({ ...dependencies, ...devDependencies });
  const isComplete = names.every((name) => existsSync(join(root, 'node_modules', name, 'package.json'))); // also true of devDependencies
  const isNewer = timeOf(installed) >= timeOf('package-lock.json');
  if (isComplete && timeOf(installed) > 0 && (isNewer || stamp.modules === current())) return;
  // --include=dev: NODE_ENV=production would leave out the build tools.
  const advice = 'Check the network and the npm registry (npm config get registry), then run this again.';
  const npm = process.env.npm_execpath;
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund'];
  const isNpm = npm !== undefined && basename(npm) === 'npm-cli.js';
  step('installing npm packages (npm ci)', isNpm ? process.execPath : 'npm', isNpm ? [npm, ...args] : args, advice);
  mark('modules', current());
}

function ensureNative() {
  if (process.env.COMFACE_NATIVE) return; // the user brings a binary
  const built = join('build/Release', 'comface.node');
  const sources = hashOf(['native']);
  const libraries = ['libcomface_cpu.so', ...(process.env.COMFACE_CUDA === 'on' ? ['libcomface_cuda.so'] : [])];
  const isBuilt = [built, ...libraries.map((name) => join('build/Release', name))].every((file) => existsSync(join(root, file)));
  if (isBuilt && stamp.native === sources) return;
  const prebuilds = `prebuilds/${process.platform}-${process.arch}`;
  const isPrebuilt = filesIn(prebuilds).some((file) => file.endsWith('.node') && timeOf(file) > Math.max(...filesIn('native').map(timeOf)));
  if (isPrebuilt && !existsSync(join(root, built))) return;
  ensureTools();
  const advice =
    'If it ran out of memory, run: JOBS=1 node scripts/bootstrap.mjs. If not, try a clean build: node native/build.mjs --clean';
  const args = ['native/build.mjs', '--jobs', process.env.JOBS ?? String(availableParallelism())];
  step('building the native library (about a minute the first time)', process.execPath, args, advice);
  const { ok, output } = attempt(process.execPath, ['-e', 'require(process.argv[1])', join(root, built)]);
  if (!ok) fail(`the new ${built} does not load:\n${output}`);
  mark('native', sources);
}

function ensureScript() {
  const sources = hashOf(['lib', 'tsconfig.json', 'node_modules/typescript/package.json']);
  if (existsSync(join(root, 'dist/index.js')) && existsSync(join(root, 'dist/cli.js')) && stamp.script === sources) return;
  step(
    'building TypeScript (lib to dist)',
    process.execPath,
    ['node_modules/typescript/bin/tsc', '-p', 'lib'],
    'Correct the errors above.',
  );
  for (const file of filesIn('dist')) {
    // What is left from a source that is gone would be packed and could be imported.
    if (!existsSync(join(root, file.replace(/^dist/, 'lib').replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts')))) rmSync(join(root, file));
  }
  mark('script', sources);
}

checkNode();
ensureModules();
ensureNative();
ensureScript();
