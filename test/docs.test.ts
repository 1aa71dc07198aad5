// The documents say what is there: every link, anchor, TypeScript example, option file, command, option, script and path that they name.
// A fault is told with file and line. The first half shows, on documents that are wrong, that each kind of fault is found.
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseConfig } from '../lib/config.ts';
import {
  blockName,
  commandFaults,
  commandsOf,
  type Document,
  documentsIn,
  linkFaults,
  optionFaults,
  partsOf,
  pathFaults,
  scriptFaults,
  testFaults,
} from './docs.ts';
import { sharedFolder } from './faces.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const cli = join(root, 'dist/cli.js');
const documents = documentsIn(root);
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
const tests = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.ts'));
const folder = sharedFolder();
const helps = new Map<string, string>();

/** Documents about the scripts of the repository, whose options are not those of comface. */
const kOfScripts = /^(?:CONTRIBUTING|CHANGELOG)\.md$|^docs\/(?:performance|performance-log|reliability)\.md$|^bench\//;
/** What is made of the source's comments has signatures in place of programs, and tests of its own. */
const kGenerated = /^docs\/api(?:\.md$|\/)/;

const helpOf = async (name: string): Promise<string | undefined> =>
  promisify(execFile)(process.execPath, [cli, name, '--help'], { env: { ...process.env, NO_COLOR: '1' } }).then(
    ({ stdout }) => stdout,
    () => undefined,
  );

beforeAll(async () => {
  const names = new Set(documents.flatMap((document) => commandsOf(document).map(({ name }) => name)));
  const all = spawnSync(process.execPath, [cli, '--help'], { encoding: 'utf8' }).stdout;
  for (const [, name] of all.matchAll(/^ {2}([a-z]+)(?: |$)/gm)) names.add(name!);
  await Promise.all(
    [...names].map(async (name) => {
      // `help` and what is no command show the help of all.
      const help = name === 'help' ? all : await helpOf(name);
      if (help !== undefined && (name === 'help' || help.startsWith(`Usage: comface ${name}`))) helps.set(name, help);
    }),
  );
});

/** A document that is not on the disk. */
const written = (...lines: string[]): Document => ({ name: 'docs/wrong.md', text: lines.join('\n') });

describe('a document that is wrong is named with its line where', () => {
  test('a link leads to no file, out of the repository, or to no heading, in a picture and in HTML, too', () => {
    const document = written(
      '# A heading, of `code`',
      '',
      '[a](tasks.md) [b](nothing.md)',
      '![c](nothing.png)',
      '[d](../../out.md)',
      '[e](tasks.md#transfer) [f](tasks.md#nowhere)',
      '[g](#a-heading-of-code) [h](#another)',
      '<img src="none.svg">',
      '[i]: gone.md',
      '`[j](in-code.md)`',
      '[k](https://example.org/gone.md)',
      '[l](../LICENSE#line)',
    );
    expect(linkFaults(document, root, [...documents, document])).toEqual([
      'docs/wrong.md:3: nothing.md leads to docs/nothing.md, which is not there',
      'docs/wrong.md:4: nothing.png leads to docs/nothing.png, which is not there',
      'docs/wrong.md:5: ../../out.md leads out of the repository',
      'docs/wrong.md:6: tasks.md#nowhere: docs/tasks.md has no heading #nowhere',
      'docs/wrong.md:7: #another: docs/wrong.md has no heading #another',
      'docs/wrong.md:8: none.svg leads to docs/none.svg, which is not there',
      'docs/wrong.md:9: gone.md leads to docs/gone.md, which is not there',
      'docs/wrong.md:12: ../LICENSE#line names a place in what is no document',
    ]);
  });

  test('headings of one name are told apart by a number', () => {
    expect([...partsOf(written('## Files', '## Files', '```', '## no heading', '```', '### What it is, and *why*')).anchors]).toEqual([
      'files',
      'files-1',
      'what-it-is-and-why',
    ]);
  });

  test('a command or one of its options is not there, in a block and in a sentence', () => {
    const document = written(
      'Say `comface train --data faces --outt run`, or `npx comface',
      'trian`, and `comface compare',
      'a.jpg b.jpg --out c.csv`.',
      '',
      '```',
      '$ comface compare a.jpg b.jpg --modle run   # --not-seen',
      'comface train --data faces \\',
      '  --sizes 64',
      'comface pack photos --out set && node dist/cli.js inspect set --verifi',
      '```',
      '',
      '`comface COMMAND --help`, `comface help train`, `comface train --help`, `comface --version`',
      '```ts',
      "run('comface trian');",
      '```',
    );
    expect(commandFaults(document, helps)).toEqual([
      'docs/wrong.md:1: comface train has no option --outt',
      'docs/wrong.md:1: there is no command comface trian',
      'docs/wrong.md:6: comface compare has no option --modle',
      'docs/wrong.md:7: comface train has no option --sizes',
      'docs/wrong.md:9: comface inspect has no option --verifi',
    ]);
  });

  test('an option stands alone that no command has', () => {
    expect(
      optionFaults(written('`--pairs 32`', '`--curriculum.stage-ends 1,2`, `--augment.*`, `--pears 32`, `--argument.*`'), helps),
    ).toEqual(['docs/wrong.md:2: no command has an option --pears', 'docs/wrong.md:2: no command has an option --argument.*']);
  });

  test('package.json has no such script', () => {
    expect(scriptFaults(written('`npm run bench -- train`', '```', 'npm run dmeo', 'npm test', '```'), scripts)).toEqual([
      'docs/wrong.md:3: package.json has no script dmeo',
    ]);
  });

  test('no test has the name that npm test is given', () => {
    expect(testFaults(written('`npm test -- checkpoint dcos`', "`npm test -- -t '^R1 '`, `npm test -- --project rooms`"), tests)).toEqual([
      'docs/wrong.md:1: no test file is called dcos',
    ]);
  });

  test('a path of the repository leads to nothing', () => {
    expect(pathFaults(written('`lib/train/`', '`lib/trian/train.ts` and `test/docs.ts`', '`native/build/nvidia`'), root)).toEqual([
      'docs/wrong.md:2: there is no lib/trian/train.ts',
    ]);
  });

  test('TypeScript in it is not what the package takes', () => {
    const block = ['```ts', "import { train } from 'comface';", '', "train({ data: 'faces', out: 'run', sizes: 64 });", '```'];
    expect(typeFaults('wrong', [written('# Wrong', ...block)])).toEqual([
      expect.stringMatching(/^docs\/wrong\.md:5: error TS2561: .*sizes/),
    ]);
  });
});

describe('every document', () => {
  test('is one of some twenty, the README among them', () => {
    expect(documents.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['README.md', 'CHANGELOG.md', 'docs/training.md', 'bench/notes.md']),
    );
  });

  const each = (check: (document: Document) => string[]): string[] => documents.flatMap(check);

  test('has links that lead to something', () => {
    expect(each((document) => linkFaults(document, root, documents))).toEqual([]);
  });

  test('names commands and options that are there', () => {
    expect(helps.size).toBeGreaterThan(12);
    const alone = (document: Document) => (kOfScripts.test(document.name) ? [] : optionFaults(document, helps));
    expect(each((document) => [...commandFaults(document, helps), ...alone(document)])).toEqual([]);
  });

  test('names scripts of package.json, tests, and paths of the repository', () => {
    const faults = each((document) => [...scriptFaults(document, scripts), ...testFaults(document, tests), ...pathFaults(document, root)]);
    expect(faults).toEqual([]);
  });

  test('has TypeScript that compiles under --strict against the package', () => {
    const checked = documents.filter(({ name }) => !kGenerated.test(name));
    expect(checked.flatMap((document) => partsOf(document).blocks).filter(({ language }) => language === 'ts').length).toBeGreaterThan(4);
    expect(typeFaults('examples', checked)).toEqual([]);
  });

  test('has option files that are options', () => {
    const files = documents.flatMap(({ name, text }) =>
      partsOf({ name, text })
        .blocks.filter(({ language }) => language === 'yaml')
        .map((block) => ({ name, text: '\n'.repeat(block.line - 1) + block.text })),
    );
    expect(files.length).toBeGreaterThan(0);
    for (const { name, text } of files) expect(() => parseConfig(text, name)).not.toThrow();
  });
});

/** What the compiler finds in the blocks of documents, each a module of its own in a folder where `comface` is installed. */
function typeFaults(name: string, some: readonly Document[]): string[] {
  const place = join(folder, name);
  mkdirSync(join(place, 'node_modules'), { recursive: true });
  symlinkSync(root, join(place, 'node_modules/comface'));
  for (const other of ['@types', 'sharp']) symlinkSync(join(root, 'node_modules', other), join(place, 'node_modules', other));
  const lines = new Map<string, string>();
  for (const document of some) {
    for (const block of partsOf(document).blocks) {
      if (block.language !== 'ts') continue;
      const file = blockName(document, block);
      lines.set(file, document.name);
      // As far down as in the document; a module even without an import.
      writeFileSync(join(place, file), `${'\n'.repeat(block.line - 1)}${block.text}export {};\n`);
    }
  }
  const compilerOptions = {
    ...{ strict: true, noEmit: true, skipLibCheck: true, target: 'es2022', module: 'nodenext', types: ['node'] },
    lib: ['es2023', 'esnext.disposable'],
  };
  writeFileSync(join(place, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(place, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { stdout, status } = spawnSync(process.execPath, [tsc, '--pretty', 'false', '-p', place], { cwd: place, encoding: 'utf8' });
  const faults = [...stdout.matchAll(/^([^\s(]+)\((\d+),\d+\): (error .*)$/gm)].map(
    ([, file, line, text]) => `${lines.get(file!) ?? file}:${line}: ${text}`,
  );
  return faults.length === 0 && status !== 0 ? [stdout] : faults;
}
