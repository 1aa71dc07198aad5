// @ts-check
// Formats native/, test/native/ and bench/ with clang-format (.clang-format at the top). Versions differ in details: 14, Debian 12's, is the one that counts.
//   node scripts/format.mjs [--check]
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const kVersion = 14;
const root = fileURLToPath(new URL('..', import.meta.url));
const isCheck = process.argv.includes('--check');

/** @param {string} tool */
function versionOf(tool) {
  const { stdout } = spawnSync(tool, ['--version'], { encoding: 'utf8' });
  return Number(/version (\d+)/.exec(stdout ?? '')?.[1] ?? 0);
}

const names = [process.env.CLANG_FORMAT, `clang-format-${kVersion}`, 'clang-format'].filter((name) => name !== undefined);
const tool = names.find((name) => versionOf(name) > 0);
if (tool === undefined) {
  console.error(
    `format: clang-format was not found.\n  Debian, Ubuntu: apt-get install clang-format-${kVersion}   (elsewhere: set CLANG_FORMAT)`,
  );
  process.exit(1);
}
if (versionOf(tool) !== kVersion) console.error(`format: this is clang-format ${versionOf(tool)}; ${kVersion} decides, others may differ`);

const files = ['native', 'test/native', 'bench']
  .flatMap((folder) => readdirSync(`${root}/${folder}`, { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`))
  .filter((file) => /\.(cc|cu|cuh|h)$/.test(file) && !file.startsWith('native/build'))
  .sort();
const { status } = spawnSync(tool, [...(isCheck ? ['--dry-run', '-Werror'] : ['-i']), ...files], { cwd: root, stdio: 'inherit' });
if (status !== 0) console.error(isCheck ? 'format: run node scripts/format.mjs' : 'format: clang-format failed');
else console.log(`${files.length} native files ${isCheck ? 'are' : 'were'} formatted`);
process.exit(status === 0 ? 0 : 1);
