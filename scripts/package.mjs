// @ts-check
// Checks what `npm publish` would send, and shows it: every file with its size, and of each binary its hash, what it needs and the oldest
// libraries that have it. Makes nothing: `npm run prebuildify` and `npm run build:ts` come first.
//   node scripts/package.mjs [--tarball FILE]    also leaves the tarball there
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const root = fileURLToPath(new URL('..', import.meta.url));
const platform = 'linux-x64';
const folder = join(root, 'prebuilds', platform);
const { values: options } = parseArgs({ options: { tarball: { type: 'string' } } });

const kMostMegabytes = 15;
/** Debian 12, Ubuntu 22.04, RHEL 9; lib/native.ts says so. */
const floors = { GLIBC: '2.34', GLIBCXX: '3.4.29', CXXABI: '1.3.13', GCC: '4.3.0' };
/** Of the system, or of node itself. Whatever else a binary needs lies beside it. */
const system = /^(libc|libm|libdl|libpthread|librt|ld-linux-x86-64|libstdc\+\+|libgcc_s)\.so\.\d+$/;

/** @type {string[]} */
const wrong = [];
/** @param {unknown} holds @param {string} text */
function check(holds, text) {
  if (!holds) wrong.push(text);
}

/** @param {string} command @param {readonly string[]} args */
function outputOf(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status === 0) return stdout;
  console.error(`package: this failed: ${command} ${args.join(' ')}\n${error?.message ?? stdout + stderr}`);
  process.exit(1);
}

/** @param {string} a @param {string} b */
const isAbove = (a, b) => a.localeCompare(b, 'en', { numeric: true }) > 0;
const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(2)} MB`;

/** @typedef {{ filename: string, size: number, unpackedSize: number, files: { path: string, size: number }[] }} Packed */
/** @returns {Packed} */
function pack() {
  const place = mkdtempSync(join(tmpdir(), 'comface-pack-'));
  try {
    const [packed] = JSON.parse(outputOf('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', place]));
    if (options.tarball) copyFileSync(join(place, packed.filename), options.tarball);
    return packed;
  } finally {
    rmSync(place, { recursive: true });
  }
}

/** @param {Packed} packed */
function checkFiles({ size, unpackedSize, files }) {
  const names = new Set(files.map(({ path }) => path));
  for (const { path, size: bytes } of files) console.log(`${String(bytes).padStart(10)}  ${path}`);
  console.log(`\n${files.length} files, ${megabytes(unpackedSize)}; the tarball has ${megabytes(size)}.`);
  const ours = [`prebuilds/${platform}/comface.glibc.node`, `prebuilds/${platform}/libcomface_cpu.so`];
  const notices = ['THIRD_PARTY_LICENSES', 'SHA256SUMS'].map((name) => `prebuilds/${platform}/${name}`);
  for (const name of [
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'dist/index.js',
    'dist/index.d.ts',
    'dist/cli.js',
    'native/build.mjs',
    ...ours,
    ...notices,
  ])
    check(names.has(name), `${name} is not in the package.`);
  // pnpm and yarn compile a package that has it, whatever package.json says.
  check(!names.has('binding.gyp'), 'binding.gyp is in the package: pnpm and yarn would compile it on install.');
  for (const name of names) {
    check(!/^(test|bench|scripts|build|native\/build)\/|\.tgz$|(^|\/)\.[^/]+$/.test(name), `${name} is in the package.`);
    const source = /^dist\/(.+)\.(js|d\.ts)(\.map)?$/.exec(name)?.[1];
    check(!source || names.has(`lib/${source}.ts`), `${name} has no source: npm run build:ts in an empty dist.`);
  }
  // With CUDA the package is as large as that backend is.
  const cuda = join(folder, 'libcomface_cuda.so');
  const without = size - (existsSync(cuda) ? gzipSync(readFileSync(cuda), { level: 9 }).length : 0);
  check(
    without < kMostMegabytes * 1e6,
    `The tarball without CUDA has ${megabytes(without)}; it should have less than ${kMostMegabytes} MB.`,
  );
}

function checkManifest() {
  const { scripts, dependencies, gypfile } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare', 'prepublish'])
    check(!scripts[name], `package.json has a script ${name}, which runs on install.`);
  check(gypfile === false, 'package.json needs "gypfile": false, or npm compiles on install.');
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  for (const [path, { dev, hasInstallScript }] of Object.entries(lock))
    check(dev || !hasInstallScript, `${path} of the dependencies runs a script on install.`);
  console.log(`No script runs on install; ${Object.keys(dependencies).length} direct dependencies.\n`);
}

function checkBinaries() {
  const sums = new Map(
    readFileSync(join(folder, 'SHA256SUMS'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => /** @type {[string, string]} */ (line.split('  ').reverse())),
  );
  const licenses = readFileSync(join(folder, 'THIRD_PARTY_LICENSES'), 'utf8');
  const names = readdirSync(folder);
  for (const name of names.filter((each) => each !== 'SHA256SUMS')) {
    const hash = createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');
    check(sums.get(name) === hash, `SHA256SUMS is not of this ${name}: npm run prebuildify.`);
    if (!/\.(node|so)(\.|$)/.test(name)) continue;
    const headers = outputOf('objdump', ['-p', join(folder, name)]);
    const needed = [...headers.matchAll(/NEEDED\s+(\S+)/g)].map(([, library = '']) => library);
    for (const library of needed)
      check(system.test(library) || names.includes(library), `${name} needs ${library}, which is not beside it.`);
    const isOurs = /^(comface|libcomface)/.test(name);
    if (isOurs) check(/R(UN)?PATH\s+\$ORIGIN$/m.test(headers), `${name} does not look beside itself ($ORIGIN) for libraries.`);
    else check(licenses.includes(`\n${name}\n`), `THIRD_PARTY_LICENSES has nothing about ${name}.`);
    console.log(`${name}\n  sha256 ${hash}\n  needs ${needed.join(' ')}\n  oldest ${oldest(name)}`);
  }
}

/** The newest version that it wants of each library that counts them. @param {string} name */
function oldest(name) {
  const symbols = outputOf('objdump', ['-T', join(folder, name)]);
  return Object.entries(floors)
    .flatMap(([library, floor]) => {
      const wanted = [...symbols.matchAll(new RegExp(`\\(?${library}_([\\d.]+)\\)?`, 'g'))].map(([, version = '']) => version);
      const newest = wanted.sort((a, b) => (isAbove(a, b) ? 1 : -1)).at(-1);
      check(!newest || !isAbove(newest, floor), `${name} needs ${library} ${newest}; the package promises ${floor}.`);
      return newest ? [`${library} ${newest}`] : [];
    })
    .join(', ');
}

/** @param {string} name @param {...string} args */
function checkWith(name, ...args) {
  const { status } = spawnSync(join(root, 'node_modules/.bin', name), args, { cwd: root, stdio: 'inherit' });
  check(status === 0, `${name} found something wrong; see above.`);
}

if (!existsSync(join(folder, 'SHA256SUMS'))) {
  console.error('package: there are no prebuilt binaries yet: npm run prebuildify');
  process.exit(1);
}
checkFiles(pack());
checkManifest();
checkBinaries();
checkWith('publint', '--strict');
checkWith('attw', '--pack', '.', '--profile', 'esm-only');
if (wrong.length > 0) {
  console.error(`\n${wrong.map((text) => `wrong: ${text}`).join('\n')}`);
  process.exit(1);
}
console.log('\nThe package is as it should be.');
