// @ts-check
// Breaks the subject of each figure on purpose, in a copy of the tree, and looks whether the figure fails: a gate that cannot fail proves nothing.
//   node test/figures/sabotage.mjs [R1 F2 ...] [--write]    --write: also puts the rows into the table of docs/reliability.md
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { checkNames, document, tableEnd, tableStart } from './document.mjs';
import { sabotages, unbroken } from './sabotages.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { write: { type: 'boolean', default: false } },
});
checkNames('sabotage', names);
const without = names.filter((name) => !sabotages.some(({ figure }) => figure === name));
for (const name of without)
  console.error(`sabotage: ${name} has no sabotage: ${unbroken[name] ?? 'add one to test/figures/sabotages.mjs'}`);
if (without.length > 0) process.exit(1);
const chosen = sabotages.filter(({ figure }) => names.length === 0 || names.includes(figure));

const copy = mkdtempSync(join(tmpdir(), 'comface-sabotage-'));
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
for (const file of files.split('\0')) if (file && existsSync(join(root, file))) cpSync(join(root, file), join(copy, file));

/** NVIDIA's headers are not in git: the copy takes those of this tree, if it has any. */
const env = { ...process.env, NVIDIA_WHEEL_ROOT: process.env.NVIDIA_WHEEL_ROOT ?? join(root, 'native/build/nvidia') };

/** Runs a figure in the copy, which bootstrap.mjs gives packages of its own: through a link to ours `npm ci` would empty them. @param {string} figure */
function run(figure) {
  const build = spawnSync(process.execPath, ['scripts/bootstrap.mjs'], { cwd: copy, encoding: 'utf8', env });
  if (build.status !== 0) return { outcome: 'did not build', line: build.stderr.trim().split('\n').at(-1) ?? '' };
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/vitest.config.ts', '-t', `^${figure} `];
  const file = join(copy, 'figures.json');
  rmSync(file, { force: true });
  spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8', env: { ...env, COMFACE_FIGURES: file }, maxBuffer: 1 << 28 });
  /** @type {{ line: string, state: string }[]} */
  const said = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
  const failed = said.find(({ state }) => state === 'failed');
  if (failed) return { outcome: 'failed', line: failed.line };
  return { outcome: said.some(({ state }) => state === 'passed') ? 'PASSED' : 'did not run', line: said[0]?.line ?? '' };
}

/** What is broken, as the table says it. @param {{ figure: string, what: string, file: string }} sabotage */
const subjectOf = ({ figure, what, file }) => `| ${figure} | ${what} (\`${file}\`) |`;
const git = (/** @type {string[]} */ ...words) => execFileSync('git', words, { cwd: root, encoding: 'utf8' }).trim();
const isChanged = git('status', '--porcelain', '--', 'lib', 'native', 'test', ':!test/figures/sabotage*') !== '';
const when = `${new Date().toISOString().slice(0, 10)}, ${git('rev-parse', '--short', 'HEAD')}${isChanged ? ' and changes' : ''}`;

/** Puts a row in its place. Rows of sabotages that were not run stay; those of sabotages that are no more go. @param {string} row */
function record(row) {
  const text = readFileSync(document, 'utf8');
  const [before, rest = ''] = text.split(tableStart);
  const [old = '', after] = rest.split(tableEnd);
  const known = [row, ...old.split('\n')];
  const lines = sabotages.flatMap((each) => known.find((line) => line.startsWith(subjectOf(each))) ?? []);
  const table = ['| figure | broken | what the figure says | when |', '| --- | --- | --- | --- |', ...lines].join('\n');
  writeFileSync(document, `${before}${tableStart}\n${table}\n${tableEnd}${after}`);
}

let failed = 0;
for (const sabotage of chosen) {
  const { figure, what, file, from, to } = sabotage;
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8');
  if (text.split(from).length !== 2) {
    console.error(`${figure}: expected the text once in ${file} but found it ${text.split(from).length - 1} times: ${from}`);
    continue;
  }
  writeFileSync(
    path,
    text.replace(from, () => to),
  );
  const { outcome, line } = run(figure);
  writeFileSync(path, text);
  if (outcome === 'failed') failed++;
  console.log(`${figure} with ${what} (${file}): ${outcome}: ${line}`);
  const words = stripVTControlCharacters(line).replaceAll('|', '/').slice(0, 160);
  if (options.write) record(`${subjectOf(sabotage)} ${outcome === 'failed' ? 'fails' : `**${outcome}**`}: ${words} | ${when} |`);
}
console.log(`${failed} of ${chosen.length} sabotages made their figure fail, as they should`);
process.exit(failed === chosen.length ? 0 : 1);
