// docs/api.md, made by `npm run api`, against the sources it was made from. Making it again needs the network; whether it is what the comments say now
// can be told without.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { trainFlags, trainSchema } from '../lib/config.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = readFileSync(join(root, 'docs/api.md'), 'utf8');
const outdated = 'docs/api.md is not what the comments in lib/ say: npm run api';

/** Each exported name and the file that declares it. */
const exported = [
  ...readFileSync(join(root, 'lib/index.ts'), 'utf8').matchAll(/export (?:type )?\{([^}]+)\} from '\.\/(.+)\.js'/g),
].flatMap(([, names, file]) =>
  names!
    .split(',')
    .map((name) => name.trim().replace(/^type /, ''))
    .filter((name) => name !== '')
    .map((name) => ({ name, file: `${file}.ts` })),
);

/** Without what Markdown and TSDoc add to a sentence. */
const plain = (text: string): string =>
  text
    .replace(/\{@link ([\w.]+)\}/g, '$1')
    .replace(/\[([^\]]+)\]\([^)]+\)/g, '$1')
    .replace(/[`\\]/g, '')
    .replace(/\s+/g, ' ')
    .trim();
const plainPage = plain(page);
const rows = page.split('\n').filter((line) => line.startsWith('| '));

interface Comment {
  /** Sentences: the summary, and what is said of parameters, results and errors. */
  texts: string[];
  initial: string | undefined;
  example: string | undefined;
  /** What it is about: the line after it. */
  line: string;
}

/** The comments of a declaration and of what it consists of, but for private and internal parts. */
function commentsOf(source: string): Comment[] {
  return [...source.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n(.*)/g)].flatMap(([, body, line]) => {
    if (body!.includes('@internal') || /^\s*(async |readonly |static |get )*(#|\{)|private /.test(line!)) return [];
    const lines = body!.split('\n').map((one) => one.replace(/^\s*\* ?/, ''));
    const [before, example] = lines.join('\n').split('@example');
    const [text, initial] = before!.split('@default ');
    const texts = text!
      .split(/@remarks[\s\S]*|@(?:param [\w.]+|returns|throws ComFaceError:?)/)
      .map(plain)
      .filter((one) => one !== '');
    return [{ texts, initial: initial?.trim(), example, line: line! }];
  });
}

/** A declaration with the comment before it. */
function declarationOf(name: string, file: string): string {
  const source = readFileSync(join(root, 'lib', file), 'utf8');
  const comment = '(?:/\\*\\*(?:(?!\\*/)[\\s\\S])*\\*/\\n(?://.*\\n)?)?';
  const kinds = '(?:async )?(?:function|class|interface|type|const)';
  const found = new RegExp(`${comment}export ${kinds} ${name}\\b[\\s\\S]*?\\n(?=\\n|$)`).exec(source)?.[0];
  const passedOn = /^export type \* from '\.\/(.+)\.js'/m.exec(source)?.[1];
  if (found === undefined) return declarationOf(name, join(dirname(file), `${passedOn}.ts`));
  // A class has blank lines in it.
  return /export class/.test(found) ? source.slice(source.indexOf(found), source.indexOf('\n}\n', source.indexOf(found))) : found;
}

const sources = [
  ...exported.map(({ name, file }) => ({ name, text: declarationOf(name, file) })),
  // The schema that TransferResult is inferred from.
  {
    name: 'transfer.json',
    text: readFileSync(join(root, 'lib/transfer/result.ts'), 'utf8')
      .match(/^ {2,}\/\*\*.*\n.*$/gm)!
      .join('\n'),
  },
];

/** As Git hosts make anchors of headings. */
function anchors(): Set<string> {
  const taken = new Map<string, number>();
  const all = [...page.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => {
    const slug = heading!
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-');
    const count = taken.get(slug) ?? 0;
    taken.set(slug, count + 1);
    return count === 0 ? slug : `${slug}-${count}`;
  });
  return new Set(all);
}

test('the API reference has a section for every exported name, and none for a name that is gone', () => {
  const headings = [...page.matchAll(/^### (\w+)(?:\(\))?$/gm)].map(([, name]) => name!);
  expect(exported.length).toBeGreaterThan(80);
  expect(headings.sort(), outdated).toEqual(exported.map(({ name }) => name).sort());
});

test('every exported name has a comment, and the API reference says what the comments of names, fields, parameters and errors say now', () => {
  const missing: string[] = [];
  for (const { name, text } of sources) {
    expect(text, name).toMatch(/\/\*\*/);
    for (const { texts } of commentsOf(text)) for (const one of texts) if (!plainPage.includes(one)) missing.push(`${name}: ${one}`);
  }
  expect(missing, outdated).toEqual([]);
});

test('the row of a field in the API reference has its name, sentence and default', () => {
  // Name, type, default where the table has one, sentence.
  const cells = rows.map((row) =>
    row
      .slice(2, -2)
      .split(/(?<!\\) \| /)
      .map(plain),
  );
  const missing: string[] = [];
  let checked = 0;
  for (const { name, text } of sources) {
    for (const { texts, initial = '', line } of commentsOf(text)) {
      const field = /^ +(?:readonly )?(\w+\??):/.exec(line)?.[1];
      if (field === undefined || texts.length !== 1 || field === 'type' || field === 'dtype') continue;
      const names = [field, ...(name === 'transfer.json' ? [`${field}?`] : [])];
      const isRow = ([first = '', , third = '', fourth]: string[]) =>
        names.includes(first.split('.').at(-1)!) &&
        (fourth ?? third) === texts[0] &&
        (fourth === undefined ? '' : third) === plain(initial);
      checked++;
      if (!cells.some(isRow)) missing.push(`${name}.${field}: ${initial} ${texts[0]}`);
    }
  }
  expect(missing, outdated).toEqual([]);
  expect(checked).toBeGreaterThan(200);
});

test('every option of a training run stands in the API reference with its text, range and default', () => {
  const table = page.slice(page.indexOf('### TrainOptions'), page.indexOf('### TrainRun'));
  const lines = table.split('\n').filter((line) => line.startsWith('| `'));
  const schema = z.toJSONSchema(trainSchema, { io: 'output', unrepresentable: 'any' });
  for (const { path, description } of trainFlags()) {
    const line = lines.find((one) => one.startsWith(`| \`${path.join('.')}\` |`));
    expect(line, `${path.join('.')}: ${outdated}`).toBeDefined();
    const text = description.replace(/ \((?:default: .*|required, by flag or file)\)$/, '');
    expect(plain(line!), outdated).toContain(plain(text));
    const option = path.reduce<Record<string, never>>((at, key) => {
      const { properties } = (at.anyOf as Record<string, never>[] | undefined)?.find((one) => one.properties) ?? at;
      return properties![key]!;
    }, schema as never);
    const { minimum, maximum, default: initial, enum: words } = option as { [key in 'minimum' | 'maximum' | 'default' | 'enum']?: unknown };
    const shown = line!.replaceAll(',', '');
    if (typeof maximum === 'number' && maximum < 2 ** 32 - 1) expect(shown, outdated).toContain(`${minimum} to ${maximum} |`.slice(0, -2));
    if (typeof initial === 'string' || typeof initial === 'boolean') expect(line, outdated).toContain(String(initial));
    if (typeof initial === 'number') expect(shown, outdated).toContain(`| \`${Number(initial.toPrecision(6))}\` |`);
    for (const word of (words ?? []) as string[]) expect(line, outdated).toContain(`'${word}'`);
  }
  const groups = ['projection', 'augment', 'curriculum'];
  expect(lines.length).toBe(new Set([...trainFlags().map(({ path }) => path.join('.')), ...groups]).size);
});

test('every link in the API reference leads to a heading in it or to a document that is there', () => {
  const known = anchors();
  const inside = [...page.matchAll(/\]\(#([^)]+)\)/g)].map(([, anchor]) => anchor!);
  expect(inside.length).toBeGreaterThan(100);
  expect(inside.filter((anchor) => !known.has(anchor))).toEqual([]);
  const files = [...page.matchAll(/\]\(((?!#|https:)[^)]+)\)/g)].map(([, file]) => file!);
  expect(files.length).toBeGreaterThan(3);
  expect(files.filter((file) => !existsSync(join(root, 'docs', file)))).toEqual([]);
});

test('the examples in the API reference are those of the comments, and compile under --strict', () => {
  const examples = [...page.matchAll(/```ts\n(import [\s\S]*?)```/g)].map(([, code]) => code!);
  const written = sources.flatMap(({ text }) => commentsOf(text).flatMap(({ example }) => (example === undefined ? [] : [example])));
  expect(examples.map(plain).sort(), outdated).toEqual(written.map((text) => plain(text.replace(/```(?:ts)?/g, ''))).sort());
  const names = ['generate', 'pack', 'train', 'loadModel', 'transfer', 'comparePairs', 'report', 'reproduce', 'inspect'];
  for (const name of names) expect(page.split(`\n### ${name}()\n`)[1]!.split('\n### ')[0]).toContain("from 'comface';");
  mkdirSync(join(root, 'build'), { recursive: true });
  const folder = mkdtempSync(join(root, 'build', 'api-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [i, code] of examples.entries()) writeFileSync(join(folder, `${i}.ts`), code);
  const compilerOptions = { target: 'es2022', module: 'nodenext', strict: true, types: ['node'], noEmit: true };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['.'] }));
  let found = '';
  try {
    execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' });
  } catch (error) {
    found = (error as { stdout: string }).stdout;
  }
  expect(found).toBe('');
});
