// F6: a name that comes from anywhere, in a report or on a terminal, is only ever read.
// The pages are judged by rules that any machine can check; where there is a browser it has to agree.
import { spawn } from 'node:child_process';
import type { WriteStream } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { printable } from '../../lib/errors.ts';
import { Progress } from '../../lib/progress.ts';
import { type DemoReport, demoReport } from '../../lib/report/report.ts';
import { browser, rendered } from '../browser.ts';
import { temporaryFolder } from '../support.ts';
import { type FigureRun, figure } from './figure.ts';
import { Random } from './mutate.mjs';
import { commandCases, hostileNames } from './names.ts';

const cli = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
/** What must not reach a terminal or a page, but for line ends of our own. */
const active = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** A report with the names in every place that takes one. */
function reportOf(names: readonly string[]): string {
  const name = names.join(' ');
  const jpeg = Uint8Array.of(0xff, 0xd8, 0xff, 0xd9);
  const data: DemoReport = {
    title: name,
    commit: name,
    machine: { cpu: name, cores: 2, node: name },
    settings: names.map((one) => [one, one]),
    seconds: { generate: 1, train: 200, evaluate: 3, total: 204 },
    curves: { step: [1, 2, 3], inter: [3, 2, 1], intra: [9, 4, 1], stages: [{ fromStep: 1, range: 10 }], chanceInter: 4 },
    tasks: names.map((one) => ({
      name: one,
      unit: one,
      rows: [{ method: one, mae: 0.5, correlation: 0.9 }],
      scatter: { truth: [1, 2, 3], estimate: [1, 2, 2] },
      pairs: [{ x: jpeg, y: jpeg, truth: -2, estimate: 0.1 }],
    })),
    target: { required: 0.1, margins: names.map((one) => [one, 0.4] as const) },
  };
  return demoReport(data);
}

const piece = /<!DOCTYPE html>|<(\/?[a-z][a-z0-9]*)((?:\s+[a-zA-Z:-]+="[^"]*")*)\s*\/?>/g;

/** The tags of a page with the names of their attributes, and all its words decoded. What is neither tag nor word is a fault. */
function anatomyOf(page: string): { tags: string[]; words: string[]; faults: string[] } {
  const tags: string[] = [];
  const values: string[] = [];
  const between = page.replace(/<style>[^<]*<\/style>/, '').replace(piece, (_, tag: string | undefined, attributes: string | undefined) => {
    const fields = [...(attributes ?? '').matchAll(/\s([a-zA-Z:-]+)="([^"]*)"/g)];
    tags.push([tag, ...fields.map(([, field]) => field)].join(' '));
    values.push(...fields.map(([, , value]) => value!));
    return '\u0001';
  });
  const texts = [...values, ...between.split('\u0001')];
  const faults = texts.flatMap((text) => text.match(/[<>"]|&(?!#\d+;)/g) ?? []).concat(page.replaceAll('\n', '').match(active) ?? []);
  const words = texts.map((text) => text.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code))));
  return { tags, words, faults };
}

/** How often `name` is read in a page, whole. */
const countOf = (words: readonly string[], name: string): number => words.reduce((sum, text) => sum + text.split(name).length - 1, 0);

/** Faults of a page with these names: tags and words have to be those of a page with harmless names of the same length. */
function faultsOf(names: readonly string[]): string[] {
  const page = anatomyOf(reportOf(names));
  const twin = anatomyOf(reportOf(names.map((name, i) => String.fromCharCode(0xe000 + i).repeat(name.length))));
  const faults = page.faults.map((fault) => `unescaped ${JSON.stringify(fault)}`);
  if (page.tags.join() !== twin.tags.join()) faults.push('a name made or ended a tag');
  for (const [i, name] of names.entries()) {
    const [seen, due] = [countOf(page.words, printable(name)), countOf(twin.words, String.fromCharCode(0xe000 + i).repeat(name.length))];
    if (seen < due) faults.push(`read ${seen} times and not ${due}: ${printable(name).slice(0, 60)}`);
  }
  return faults;
}

/** A name of hostile pieces. */
function drawName(random: Random): string {
  const parts = Array.from({ length: 1 + random.below(6) }, () => {
    const from = random.pick(hostileNames.slice(0, -1));
    const at = random.below(from.length);
    return random.oneIn(3) ? String.fromCharCode(random.below(0x3000)) : from.slice(at, at + 1 + random.below(30));
  });
  return parts.join('');
}

const kPolicy = /<meta http-equiv="Content-Security-Policy"[^>]*>/;
const ran = (dom: string) => /<html[^>]* data-ran/.test(dom);

/** What the browser says about the hostile names: the escapes have to do without the policy, and the policy without the escapes. */
async function browserFaults(program: string): Promise<string[]> {
  const page = reportOf(hostileNames);
  const bare = page.replace('</h1>', `</h1>${hostileNames.join('')}`);
  const [escaped, unescaped, guarded] = await Promise.all(
    [page.replace(kPolicy, ''), bare.replace(kPolicy, ''), bare].map((html) => rendered(program, html)),
  );
  expect(ran(unescaped!), 'the browser runs scripts, or this shows nothing').toBe(true);
  const text = escaped!
    .replace(/&lt;/g, '<')
    .replace(/&gt;/g, '>')
    .replace(/&quot;/g, '"')
    .replace(/&nbsp;/g, '\u00a0')
    .replace(/&amp;/g, '&');
  return [
    ...(ran(escaped!) ? ['a script ran in the page without its policy'] : []),
    ...(ran(guarded!) ? ['a script ran against the policy'] : []),
    ...hostileNames
      .filter((name) => !text.includes(printable(name).replace(/[\ud800-\udfff]/g, '\ufffd')))
      .map((name) => `not shown: ${printable(name).slice(0, 60)}`),
  ];
}

/** Runs a command; faults of what it says. */
async function commandFaults({ where, args, says }: Awaited<ReturnType<typeof commandCases>>[number], cwd: string): Promise<string[]> {
  const child = spawn(process.execPath, [cli, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  await new Promise((resolve) => child.on('close', resolve));
  const found = (output.replaceAll('\n', '').match(active) ?? []).map((sign) => `${where}: unescaped ${JSON.stringify(sign)}`);
  if (/^\s*forged/m.test(output)) found.push(`${where}: a line that a name made`);
  if (!output.includes(says)) found.push(`${where}: the command did not come to ${says}: ${output.slice(0, 300)}`);
  return found;
}

/** Faults of the progress line on a terminal, which has its own control characters. */
function progressFaults(): string[] {
  let written = '';
  const terminal = { isTTY: true, columns: 100_000, write: (text: string) => (written += text) } as unknown as WriteStream;
  const progress = new Progress(terminal, 'xterm');
  for (const name of hostileNames) {
    progress.update(name);
    progress.note(name);
    progress.update(name, true);
  }
  const own = written.replaceAll('\r\x1b[2K', '').replaceAll('\n', '');
  const lines = written.split('\n').length - 1;
  return [
    ...(own.match(active) ?? []).map((sign) => `progress: ${JSON.stringify(sign)}`),
    ...(lines === 2 * hostileNames.length ? [] : ['progress: a line too many']),
  ];
}

async function measure({ count, say }: FigureRun): Promise<void> {
  const folder = temporaryFolder();
  const random = new Random();
  const faults = [...faultsOf(hostileNames), ...progressFaults()];
  for (let i = 0; i < count; i++) {
    random.reset(6, i);
    faults.push(...faultsOf([drawName(random)]));
  }
  const cases = await commandCases(folder);
  for (let i = 0; i < cases.length; i += 2) {
    faults.push(...(await Promise.all(cases.slice(i, i + 2).map((one) => commandFaults(one, folder)))).flat());
  }
  const program = browser();
  if (program) faults.push(...(await browserFaults(program)));
  const judge = program ? 'a headless browser agrees' : 'judged by rules alone, for want of a browser (apt-get install chromium)';
  say(`${count.toLocaleString('en')} hostile names in reports, ${cases.length} commands: ${faults.length} unescaped; ${judge}`);
  expect(faults.slice(0, 10)).toEqual([]);
}

figure('F6 hostile names are shown, never obeyed, in reports and on terminals', { ci: 300, long: 3_000, seconds: 240 }, measure);
