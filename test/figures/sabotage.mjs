// @ts-check
// Breaks the subject of each figure on purpose, in a copy of the tree, and looks whether the figure fails: a gate that cannot fail proves nothing.
//   node test/figures/sabotage.mjs [R1 F2 ...] [--write]    --write: also puts the table into docs/reliability.md
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { sabotages } from './sabotages.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { write: { type: 'boolean', default: false } },
});
const chosen = sabotages.filter(({ figure }) => names.length === 0 || names.includes(figure));

const copy = mkdtempSync(join(tmpdir(), 'comface-sabotage-'));
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
for (const file of files.split('\0')) if (file && existsSync(join(root, file))) cpSync(join(root, file), join(copy, file));
symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));

/** Runs a figure in the copy. @param {string} figure */
function run(figure) {
  const build = spawnSync(process.execPath, ['scripts/bootstrap.mjs'], { cwd: copy, encoding: 'utf8' });
  if (build.status !== 0) return { outcome: 'did not build', line: build.stderr.trim().split('\n').at(-1) ?? '' };
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/vitest.config.ts', '-t', `^${figure} `];
  const file = join(copy, 'figures.json');
  rmSync(file, { force: true });
  spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8', env: { ...process.env, COMFACE_FIGURES: file }, maxBuffer: 1 << 28 });
  /** @type {{ line: string, state: string }[]} */
  const said = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
  const failed = said.find(({ state }) => state === 'failed');
  if (failed) return { outcome: 'failed', line: failed.line };
  return { outcome: said.some(({ state }) => state === 'passed') ? 'PASSED' : 'did not run', line: said[0]?.line ?? '' };
}

const rows = [];
let missed = 0;
for (const { figure, what, file, from, to } of chosen) {
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8');
  if (text.split(from).length !== 2) {
    console.error(`${figure}: expected the text once in ${file} but found it ${text.split(from).length - 1} times: ${from}`);
    missed++;
    continue;
  }
  writeFileSync(
    path,
    text.replace(from, () => to),
  );
  const { outcome, line } = run(figure);
  writeFileSync(path, text);
  if (outcome !== 'failed') missed++;
  console.log(`${figure} with ${what} (${file}): ${outcome}: ${line}`);
  const words = stripVTControlCharacters(line).replaceAll('|', '/').slice(0, 160);
  rows.push(`| ${figure} | ${what} (\`${file}\`) | ${outcome === 'failed' ? 'fails' : `**${outcome}**`}: ${words} |`);
}
if (options.write) {
  const document = join(root, 'docs/reliability.md');
  const [start, end] = ['<!-- sabotage -->', '<!-- end -->'];
  const text = readFileSync(document, 'utf8');
  const table = ['| figure | broken | what the figure says |', '| --- | --- | --- |', ...rows].join('\n');
  writeFileSync(document, `${text.split(start)[0]}${start}\n${table}\n${end}${text.split(end)[1]}`);
}
console.log(`${rows.length - missed} of ${chosen.length} figures failed as they should`);
process.exit(missed > 0 ? 1 : 0);
