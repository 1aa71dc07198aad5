// @ts-check
// The figures at their full length, one after the other; writes what was measured into docs/reliability.md.
//   npm run soak [-- R1 F2 ...] [--dry]    without names: all; --dry: leaves the document alone
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const document = join(root, 'docs/reliability.md');
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { dry: { type: 'boolean', default: false } },
});
const unknown = names.filter((name) => !/^[RFMETN]\d+$/.test(name));
if (unknown.length > 0) {
  console.error(`soak: expected names of figures such as R1 or F2 but received ${unknown.join(', ')}; docs/reliability.md lists them`);
  process.exit(1);
}

const folder = mkdtempSync(join(tmpdir(), 'comface-soak-'));
const file = join(folder, 'figures.json');
const all = [...readFileSync(document, 'utf8').matchAll(/^\| ([RFMETN]\d+) \|/gm)].map(([, name]) => String(name));
let status = 0;
// One after the other, and written down at once: a long one that is cut off takes nothing else with it.
for (const name of new Set(names.length > 0 ? names : all)) {
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
  const machine = `${cpus()[0]?.model.trim()}, ${cpus().length} cores`;
  let text = readFileSync(document, 'utf8');
  for (const id of new Set(figures.map((figure) => figure.id))) {
    const said = figures.filter((figure) => figure.id === id);
    const words = said.map(({ line, state }) => `${state === 'failed' ? '**missed**: ' : ''}${line}`).join('; ');
    const seconds = said.reduce((sum, figure) => sum + figure.seconds, 0);
    const row = new RegExp(`^\\| ${id} \\|([^|]*)\\|([^|]*)\\|.*$`, 'm');
    if (!row.test(text)) console.error(`soak: docs/reliability.md has no row for ${id}`);
    const cells = `${words.replaceAll('|', '/')} | ${when}, ${Math.ceil(seconds)} s |`;
    text = text.replace(row, (_, promise, ci) => `| ${id} |${promise}|${ci}| ${cells}`);
  }
  text = text.replace(/^Machine of the long column: .*$/m, `Machine of the long column: ${machine}, node ${process.versions.node}.`);
  writeFileSync(document, text);
}
