// @ts-check
// docs/reliability.md as the tools beside it read it: which figures it has, and where the table of sabotages stands.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const document = fileURLToPath(new URL('../../docs/reliability.md', import.meta.url));
export const [tableStart, tableEnd] = ['<!-- sabotage -->', '<!-- end -->'];

/** Names of all figures, in the document's order. @returns {string[]} */
export function figureNames() {
  const [text = ''] = readFileSync(document, 'utf8').split(tableStart);
  return Array.from(text.matchAll(/^\| ([RFMETN]\d+) \|/gm), ([, name]) => String(name));
}

/** Ends the process where a name is none of a figure's. @param {string} tool @param {readonly string[]} names */
export function checkNames(tool, names) {
  const all = figureNames();
  const unknown = names.filter((name) => !all.includes(name));
  if (unknown.length === 0) return;
  console.error(
    `${tool}: expected names of figures (${all.join(' ')}) but received ${unknown.join(' ')}; docs/reliability.md says what each is`,
  );
  process.exit(1);
}
