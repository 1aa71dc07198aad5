// docs/cli.md against the package: every command, result, variable and link of the page is there, and the page has all that there are.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { environmentNames } from '../lib/doctor.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = readFileSync(join(root, 'docs/cli.md'), 'utf8');
const help = spawnSync(process.execPath, [join(root, 'dist/cli.js'), '--help'], { encoding: 'utf8' }).stdout;
const commands = [...help.matchAll(/^ {2}([a-z]+) {2,}[A-Z]/gm)].map(([, name]) => name!).filter((name) => name !== 'help');

/** Rows of the tables under a heading. */
const rowsOf = (heading: string): string[] =>
  (page.split(new RegExp(`^#+ ${heading}$`, 'm'))[1] ?? '')
    .split(/^#/m)[0]!
    .split('\n')
    .filter((line) => line.startsWith('| `'));
const namesIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);
const firstCells = (heading: string): string[] => rowsOf(heading).flatMap((row) => namesIn(row.split('|')[1]!));

/** What is built of, as one text; without what the build leaves there. */
function sourcesIn(folder: string, endings: RegExp): string {
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  const own = files.filter((file) => endings.test(file) && !file.startsWith('build/'));
  return own.map((file) => readFileSync(join(root, folder, file), 'utf8')).join('\n');
}
const sources = [sourcesIn('lib', /\.ts$/), sourcesIn('native', /\.(cc|cu|h|cuh|mjs)$/)].join('\n');
const loader = readFileSync(join(root, 'node_modules/node-gyp-build/node-gyp-build.js'), 'utf8');

describe('the page of the command line', () => {
  test('has every command, in the groups and the order of the help, and no other', () => {
    expect(commands.length).toBeGreaterThan(14);
    expect(firstCells('Commands').map((name) => name.replace(/^comface /, ''))).toEqual(commands);
  });

  test('says what --json gives for every command', () => {
    expect(firstCells('--json').sort()).toEqual([...commands].sort());
  });

  test('has every environment variable that the sources read, and no other', () => {
    const read = [
      ...sources.matchAll(/\bprocess\.env\.(\w+)/g),
      ...sources.matchAll(/\b(?:getenv|named)\("(\w+)"\)/g),
      ...[...sources.matchAll(/const \{([\w, ]+)\} = process\.env/g)].flatMap(([, names]) => [...names!.matchAll(/(\w+)/g)]),
    ].map(([, name]) => name!);
    const documented = firstCells('Environment variables');
    expect(read.length).toBeGreaterThan(10);
    expect([...new Set([...read, ...environmentNames])].filter((name) => !documented.includes(name))).toEqual([]);
    const known = (name: string) => sources.includes(name) || loader.includes(name.replace('COMFACE_PREBUILD', '_PREBUILD'));
    expect(documented.filter((name) => !known(name))).toEqual([]);
    expect(new Set(documented).size).toBe(documented.length);
  });

  test('has the exit codes of the help', () => {
    const codes = rowsWithNumbers(page);
    for (const [, code] of help.matchAll(/^ {2}(\d+) {2,}\S/gm)) expect(codes).toContain(code);
    for (const code of ['129', '143']) expect([codes.includes(code), help.includes(code)]).toEqual([true, true]);
  });

  test('links to what is there', () => {
    for (const [, file, anchor] of page.matchAll(/\]\(([^)#]+)(?:#([^)]+))?\)/g)) {
      const path = join(root, 'docs', file!);
      expect([file, existsSync(path)]).toEqual([file, true]);
      if (anchor === undefined) continue;
      const headings = [...readFileSync(path, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, text]) =>
        text!
          .toLowerCase()
          .replace(/[^\w\s-]/g, '')
          .replaceAll(' ', '-'),
      );
      expect(headings).toContain(anchor);
    }
  });

  test('shows an error as it is printed', () => {
    const [, words, answer] = /^\$ comface (generate .*--json)\n(\{"error".*)$/m.exec(page)!;
    const { status, stderr } = spawnSync(process.execPath, [join(root, 'dist/cli.js'), ...words!.split(' ')], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([2, `${answer}\n`]);
  });
});

/** Numbers in the first cells of all tables. */
function rowsWithNumbers(text: string): string[] {
  return [...text.matchAll(/^\| ([\d, ]+) \|/gm)].flatMap(([, cell]) => cell!.split(', '));
}
