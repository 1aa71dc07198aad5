// @ts-check
// Makes prebuilds/<platform>-<arch>, the binaries that the package ships: prebuildify calls node-gyp, that reads binding.gyp, and that calls
// native/build.mjs. Then the licenses of everything in them (THIRD_PARTY_LICENSES) and their hashes (SHA256SUMS) are written beside them.
//   node scripts/prebuild.mjs [--cuda auto|on|off]
// Everything happens in a folder of its own, as node-gyp empties build/, which others may be using.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));
const stage = join(root, 'native/build/stage');
const folder = join(root, 'prebuilds', `${process.platform}-${process.arch}`);
const { values: options } = parseArgs({ options: { cuda: { type: 'string', default: process.env.COMFACE_CUDA || 'auto' } } });

/** @param {string} text @returns {never} */
function fail(text) {
  console.error(`prebuild: ${text}`);
  process.exit(1);
}

/** @param {string} command @param {readonly string[]} args @param {string} advice */
function outputOf(command, args, advice) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) fail(`this failed: ${command} ${args.join(' ')}\n  ${(error?.message ?? stderr).trim()}\n  ${advice}`);
  return stdout.trim();
}

/** The folder with this node's own headers, if it is there; node-gyp downloads them otherwise. */
function nodeFolder() {
  for (const prefix of [process.env.npm_config_nodedir, dirname(dirname(process.execPath))]) {
    const header = prefix && join(prefix, 'include/node/node_version.h');
    if (!header || !existsSync(header)) continue;
    const text = readFileSync(header, 'utf8');
    const version = ['MAJOR', 'MINOR', 'PATCH'].map((part) => text.match(new RegExp(`NODE_${part}_VERSION (\\d+)`))?.[1]);
    if (`v${version.join('.')}` === process.version) return prefix;
  }
  return undefined;
}

function build() {
  for (const [tool, name] of /** @type {const} */ ([
    ['python3', 'python3'],
    ['make', 'make'],
    ['strip', 'binutils'],
  ]))
    outputOf(tool, ['--version'], `Debian: apt-get install ${name}`);
  for (const old of [stage, join(root, 'prebuilds')]) rmSync(old, { recursive: true, force: true });
  mkdirSync(stage, { recursive: true });
  for (const name of ['package.json', 'binding.gyp', 'native', 'node_modules']) symlinkSync(join(root, name), join(stage, name));
  /** @type {NodeJS.ProcessEnv} */
  const env = { ...process.env, COMFACE_CUDA: options.cuda };
  const prefix = nodeFolder();
  if (prefix) env.npm_config_nodedir = prefix;
  const args = ['--napi', '--strip', '--tag-libc', '-t', process.versions.node, '--cwd', stage, '--out', root];
  const { status } = spawnSync(process.execPath, [require.resolve('prebuildify/bin.js'), ...args], {
    cwd: stage,
    env,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) fail('prebuildify failed; the reason is above.');
  rmSync(stage, { recursive: true });
}

/**
 * What a file of Debian's is under: its package with its version, where its source is, and its copyright file.
 * @param {string} file
 */
function debianNotice(file) {
  const advice = 'Prebuilt binaries are made on Debian, whose packages say what the libraries in them are under.';
  const name = (outputOf('dpkg-query', ['--search', file], advice).split('\n').at(-1) ?? '').replace(/(:[\w-]+)?: .*$/, '');
  const format = '$' + '{Package} $' + '{Version}; source: $' + '{source:Package} $' + '{source:Version}';
  const shown = outputOf('dpkg-query', ['--show', '--showformat', format, name], advice);
  const [, source, version] = /source: (\S+) (\S+)$/.exec(shown) ?? [];
  return {
    title: `Debian's ${shown.split(';')[0]}`,
    source: `https://snapshot.debian.org/package/${source}/${version}/`,
    text: readFileSync(`/usr/share/doc/${name}/copyright`, 'utf8'),
  };
}

/** Every library that is not ours, and what is compiled into ours. */
function notices() {
  const found = [];
  for (const name of readdirSync(folder).filter((each) => /\.so(\.|$)/.test(each) && !each.startsWith('libcomface'))) {
    const places = outputOf('ldconfig', ['-p'], '').split('\n');
    const file = places.find((line) => line.trim().startsWith(`${name} `) && line.includes('x86-64'))?.split('=> ')[1];
    if (!file) fail(`${name} is in the package, and ldconfig does not know where it is from.`);
    found.push({ what: name, ...debianNotice(realpathSync(file)) });
  }
  const compiler = outputOf('c++', ['-print-file-name=libstdc++.a'], 'Debian: apt-get install build-essential');
  found.push({ what: 'libstdc++, linked into comface.node', ...debianNotice(realpathSync(compiler)) });
  for (const name of ['node-addon-api', 'node-api-headers']) {
    const place = dirname(require.resolve(`${name}/package.json`));
    const { version } = JSON.parse(readFileSync(join(place, 'package.json'), 'utf8'));
    const license = readdirSync(place).find((file) => /^licen[sc]e/i.test(file)) ?? fail(`${place} has no license.`);
    const text = readFileSync(join(place, license), 'utf8');
    found.push({
      what: `${name}, compiled into comface.node`,
      title: `${name} ${version}`,
      source: `https://www.npmjs.com/package/${name}`,
      text,
    });
  }
  if (existsSync(join(folder, 'libcomface_cuda.so'))) found.push(cudaNotice());
  return found;
}

/** The CUDA runtime is linked into the CUDA backend, as NVIDIA's terms allow (attachment A). */
function cudaNotice() {
  return {
    what: 'CUDA runtime, linked into libcomface_cuda.so',
    title: `NVIDIA CUDA runtime ${outputOf('nvcc', ['--version'], '').match(/release ([\d.]+)/)?.[1]} (cudart_static)`,
    source: 'https://docs.nvidia.com/cuda/eula/',
    text: 'This software contains source code provided by NVIDIA Corporation. Its terms: NVIDIA CUDA Toolkit End User License Agreement, at the address above.\n',
  };
}

function writeLicenses() {
  const all = notices();
  const parts = [
    `What the binaries in this folder are made of, beside comface's own code (MIT), and its licenses. Debian's libraries are as Debian made them.\n`,
    ...all.map(({ what, title }) => `  ${what}: ${title}\n`),
  ];
  for (const { what, title, source, text } of all) {
    // Two of one Debian source have one text.
    const same = all.find((other) => other.text === text);
    const body = same && same.what !== what ? `As of ${same.what}, above.\n` : text;
    parts.push(`\n${'='.repeat(80)}\n${what}\n${title}\nSource: ${source}\n${'='.repeat(80)}\n\n${body.trimEnd()}\n`);
  }
  // Texts that Debian's copyright files only name.
  const named = new Set(parts.join('').match(/\/usr\/share\/common-licenses\/[A-Z][\w.-]*\w/g));
  for (const file of [...named].sort())
    parts.push(`\n${'='.repeat(80)}\n${file}\n${'='.repeat(80)}\n\n${readFileSync(file, 'utf8').trimEnd()}\n`);
  writeFileSync(join(folder, 'THIRD_PARTY_LICENSES'), parts.join(''));
}

function writeHashes() {
  const lines = readdirSync(folder)
    .sort()
    .map(
      (name) =>
        `${createHash('sha256')
          .update(readFileSync(join(folder, name)))
          .digest('hex')}  ${name}\n`,
    );
  writeFileSync(join(folder, 'SHA256SUMS'), lines.join(''));
}

build();
writeLicenses();
writeHashes();
console.log(`${folder}: ${readdirSync(folder).join(', ')}`);
