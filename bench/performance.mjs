// @ts-check
// Makes docs/performance.md and its charts from results and the hand-written notes.   npm run performance -- [RESULTS ...] [--notes FILE] [--out FOLDER]
// RESULTS: files that `npm run bench -- --json FILE` wrote, bench/results.jsonl if not given; of a case that is in several, the last counts.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readResults } from './compare.mjs';
import { root } from './contenders.mjs';
import { charts, page } from './page.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { notes: { type: 'string', default: join(root, 'bench/notes.md') }, out: { type: 'string', default: join(root, 'docs') } },
});
const files = positionals.length > 0 ? positionals : [join(root, 'bench/results.jsonl')];
for (const file of [...files, options.notes]) {
  if (existsSync(file)) continue;
  console.error(
    `There is no file ${file}.\n  npm run bench -- --json bench/results.jsonl makes results; bench/notes.md is in the repository.`,
  );
  process.exit(2);
}
const results = [...new Map(files.flatMap(readResults).map((result) => [result.name, result])).values()];
mkdirSync(options.out, { recursive: true });
// Charts of cases that are no more.
for (const file of readdirSync(options.out)) if (/^performance-.*\.svg$/.test(file)) rmSync(join(options.out, file));
const made = charts(results);
for (const [name, svg] of made) writeFileSync(join(options.out, name), svg);
writeFileSync(join(options.out, 'performance.md'), page(results, readFileSync(options.notes, 'utf8')));
console.log(`${join(options.out, 'performance.md')}: ${results.length} cases, ${made.size} charts`);
