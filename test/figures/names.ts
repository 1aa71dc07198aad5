// Hostile names, and the commands that say them: for figure F6.
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from '../../lib/data/procedural.ts';
import { train } from '../../lib/train/train.ts';
import { smallRun } from '../faces.ts';

/** What a page must not run and a terminal must not obey. `forged` tells where a line of its own would begin. */
export const hostileNames: readonly string[] = [
  `<script>document.documentElement.dataset.ran=1</script>`,
  `"><img src=x onerror="document.documentElement.dataset.ran=1">`,
  `' onmouseover='document.documentElement.dataset.ran=1' x='`,
  `</title></style></svg></textarea><svg onload="document.documentElement.dataset.ran=1">`,
  '<!-- ]]> --!> {{7*7}} javascript:alert(1)',
  '&lt;b&gt; &amp; &#60; &nbsp',
  '\u001b[31mred\u001b]0;title\u0007\u001b[2J',
  '\u009b31m\u0085\u0090q\u009c',
  'a\r\nforged: done\rforged\n\tforged',
  '\u202egpj.exe\u2066\u2067\u200f\u061c',
  'a\u2028forged\u2029forged',
  '\ud800 \udfff \u0000 \ufffe',
  '10 kB <"&\u001b[1m'.repeat(700),
];
/** The same for a path: no slash, no NUL, at most 255 bytes. */
export const hostileFile = `<img src=x onerror=1>"'&\u001b[31m\u009b2J\u0007\r\nforged\tü\u202e\u2028forged`;
const longName = `${'x<"&\u001b[1m'.repeat(1300)}forged`;

/** A command whose output has to say `says`. */
export interface Case {
  where: string;
  args: string[];
  says: string;
}

const small = Object.entries({ ...smallRun, stageEnds: undefined, curriculum: undefined, projection: undefined }).flatMap(
  ([name, value]) => (value === undefined ? [] : [`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, String(value)]),
);

/** Every place where the command line says a name that is not its own. Makes what the commands need in `folder`. */
export async function commandCases(folder: string): Promise<Case[]> {
  const at = (...names: string[]) => join(folder, ...names);
  const text = (name: string, content: string) => {
    writeFileSync(at(name), content);
    return at(name);
  };
  const says = 'forged';
  const said = (where: string, ...args: string[]): Case => ({ where, args, says });
  const withConfig = (where: string, content: string): Case =>
    said(where, 'train', '--config', text(`${where.replaceAll(' ', '-')}.yaml`, content), '--data', 'a', '--out', 'b');
  const quoted = JSON.stringify(hostileFile);
  const busy = at('busy', hostileFile);
  mkdirSync(busy, { recursive: true });
  writeFileSync(join(busy, 'run.lock'), JSON.stringify({ pid: process.pid, start: null }));
  text('file', '');
  return [
    said('a command', hostileFile),
    said('an option', 'train', `--${hostileFile}`),
    said('an option with a value', 'train', `--${hostileFile}=1`),
    said('a choice', 'demo', '--scale', hostileFile),
    said('a flag of numbers', 'train', '--data', 'a', '--out', 'b', '--temperature', hostileFile),
    said('a flag of words', 'train', '--data', 'a', '--out', 'b', '--backbone', hostileFile),
    said('an attribute to draw', 'generate', '--out', at('never'), '--attributes', hostileFile),
    said('a number of people', 'generate', '--out', at('never'), '--subjects', hostileFile),
    said('a folder in a file', 'generate', '--out', at('file', hostileFile)),
    said('a name of 10 kB', 'train', '--data', at(longName), '--out', at('never')),
    said('a data folder', 'train', '--data', at(hostileFile), '--out', at('never')),
    said('a model', 'compare', 'x.jpg', 'y.jpg', '--model', at(hostileFile)),
    said('a model of a transfer', 'saliency', 'x.jpg', '--out', 'x.png', '--model', at(hostileFile)),
    said('a file of pairs', 'compare', '--pairs', at(hostileFile), '--out', 'x.csv', '--model', at('damaged', hostileFile)),
    said('a run to report on', 'report', at(hostileFile)),
    ...transferCases(folder),
    said('a configuration', 'train', '--config', at(hostileFile)),
    said('a sheet', 'sheet', '--out', at('none', hostileFile), '--subjects', '1', '--alphas', '0', '--size', '32'),
    said('a sheet that is made', 'sheet', '--out', at(`${hostileFile}.jpg`), '--subjects', '1', '--alphas', '0', '--size', '32'),
    withConfig('a key', `${quoted}: 1\n`),
    withConfig('a long key', `? ${JSON.stringify(`forged${longName.slice(0, 4000)}`)}\n: 1\n`),
    withConfig('a value', `backbone: ${quoted}\n`),
    withConfig('an alias', 'seed: *forged\u009b31m\u202e\n'),
    withConfig('a tag', 'seed: !forged%1b%c2%9b%e2%80%ae x\n'),
    ...(await dataCases(folder)),
    said('a busy folder', 'train', '--data', at('data'), '--out', busy, ...small),
  ];
}

/** Results that say hostile names where they are wrong, and pairs of them. */
function transferCases(folder: string): Case[] {
  const place = join(folder, 'transfers', hostileFile);
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, 'transfer.json'), JSON.stringify({ version: 1, [hostileFile]: 1, evaluation: hostileFile }));
  const pairs = join(folder, 'pairs.csv');
  const cell = `"${hostileFile.replaceAll('"', '""').replaceAll('\r\n', ' ')}"`;
  writeFileSync(pairs, `x,y\n${cell},${cell}\n`);
  const model = join(folder, 'damaged', hostileFile);
  return [
    { where: 'a result of a transfer', args: ['report', place], says: 'forged' },
    {
      where: 'pictures of pairs',
      args: ['compare', '--pairs', pairs, '--out', join(folder, 'changes.csv'), '--model', model],
      says: 'Not compared',
    },
  ];
}

/** Data, pictures and runs under hostile names. */
async function dataCases(folder: string): Promise<Case[]> {
  const at = (...names: string[]) => join(folder, ...names);
  const data = at('data');
  await generate({ out: data, format: 'files', subjects: 12, attributes: ['smile'], alphas: 5, size: 32, threads: 1 });
  const lines = readFileSync(join(data, 'manifest.jsonl'), 'utf8').trim().split('\n');
  const withLine = (where: string, index: number, change: object): Case => {
    const made = at(where.replaceAll(' ', '-'));
    mkdirSync(made);
    const changed = lines.with(index, JSON.stringify({ ...JSON.parse(lines[index]!), ...change }));
    writeFileSync(join(made, 'manifest.jsonl'), changed.join('\n'));
    return { where, args: ['train', '--data', made, '--out', at('never'), ...small], says: 'forged' };
  };
  // One picture that is broken, under a hostile name; it is met in the first epoch.
  const broken = at('broken');
  await generate({ out: broken, format: 'files', subjects: 12, attributes: ['smile'], alphas: 5, size: 32, threads: 1 });
  writeFileSync(join(broken, hostileFile), 'no picture');
  const named = lines.with(7, JSON.stringify({ ...JSON.parse(lines[7]!), file: hostileFile }));
  writeFileSync(join(broken, 'manifest.jsonl'), named.join('\n'));
  const trained = ['train', '--data', broken, ...small, '--epochs', '1', '--validation', '0'];
  // A run whose last checkpoint is damaged.
  const damaged = at('damaged', hostileFile);
  const { path } = await train({ ...smallRun, data, out: damaged, epochs: 1, checkpointEverySteps: 2 });
  truncateSync(join(path, 'weights.safetensors'), 100);
  return [
    withLine('an attribute of a row', 3, { attribute: hostileFile }),
    withLine('a file of a row', 3, { file: `../${hostileFile}` }),
    withLine('a picture that is missing', 1, { file: hostileFile }),
    withLine('a format', 0, { format: hostileFile }),
    withLine('attributes of a header', 0, { attributes: [hostileFile, hostileFile] }),
    {
      where: 'a broken picture',
      args: [...trained, '--pairs-per-epoch', '60', '--out', at('run', hostileFile), '--broken-share', '1'],
      says: 'Skipped',
    },
    {
      where: 'a last broken picture',
      args: [...trained, '--pairs-per-epoch', '60', '--out', at('run2'), '--broken-share', '0'],
      says: 'forged',
    },
    {
      where: 'a damaged checkpoint',
      args: [
        'train',
        '--data',
        data,
        '--out',
        damaged,
        ...small,
        '--epochs',
        '1',
        '--checkpoint-every-steps',
        '2',
        '--curriculum.stage-ends',
        '1,2,3',
        '--projection.hidden',
        '32',
        '--projection.out',
        '16',
        '--resume',
      ],
      says: 'damaged',
    },
  ];
}
