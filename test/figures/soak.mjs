// @ts-check
// The figures at their full length, one after the other; writes what was measured into docs/reliability.md.
//   npm run soak [-- R1 F2 ...] [--dry]    without names: all; --dry: leaves the document alone
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { checkNames, document, figureNames } from './document.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { dry: { type: 'boolean', default: false } },
});
checkNames('soak', names);

const folder = mkdtempSync(join(tmpdir(), 'comface-soak-'));
const file = join(folder, 'figures.json');
let status = 0;
// One after the other, and written down at once: a long one that is cut off takes nothing else with it.
for (const name of new Set(names.length > 0 ? names : figureNames())) {
  rmSync(file, { force: true });
  const args = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--config', 'test/vitest.config.ts', '-t', `^${name} `];
  const env = { ...process.env, COMFACE_SOAK: 'long', COMFACE_FIGURES: file };
  status = spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' }).status || status;
  try {
    /** @type {{ id: string, line: string, state: string, seconds: number }[]} */
    const figures = JSON.parse(readFileSync(file, 'utf8'));
    if (!options.dry) record(figures);
  } catch {
    console.error(`soak: ${name} ended before it had figures`);
    status ||= 1;
  }
}
rmSync(folder, { recursive: true });
process.exit(status);

/** Puts each figure's line into the last two cells of its row. @param {{ id: string, line: string, state: string, seconds: number }[]} figures */
function record(figures) {
  const git = (/** @type {string[]} */ ...words) => execFileSync('git', words, { cwd: root, encoding: 'utf8' }).trim();
  const isChanged = git('status', '--porcelain', '--', 'lib', 'native', 'test') !== '';
  const when = `${new Date().toISOString().slice(0, 10)}, ${git('rev-parse', '--short', 'HEAD')}${isChanged ? ' and changes' : ''}`;
  const machine = `${cpus()[0]?.model.trim()}, ${cpus().length} cores, node ${process.versions.node}`;
  let text = readFileSync(document, 'utf8');
  // The line above the tables is of the machine that measured most of the rows; a row of another says so.
  const where = text.includes(`\nMachine of the long column: ${machine}.\n`) ? '' : ` on ${machine.replaceAll('|', '/')}`;
  for (const id of new Set(figures.map((figure) => figure.id))) {
    const said = figures.filter((figure) => figure.id === id);
    const words = said.map(({ line, state }) => `${state === 'failed' ? '**missed**: ' : ''}${line}`).join('; ');
    const seconds = said.reduce((sum, figure) => sum + figure.seconds, 0);
    const row = new RegExp(`^\\| ${id} \\|([^|]*)\\|([^|]*)\\|.*$`, 'm');
    if (!row.test(text)) console.error(`soak: docs/reliability.md has no row for ${id}`);
    const cells = `${words.replaceAll('|', '/')} | ${when}, ${Math.ceil(seconds)} s${where} |`;
    text = text.replace(row, (_, promise, ci) => `| ${id} |${promise}|${ci}| ${cells}`);
  }
  writeFileSync(document, text);
}
