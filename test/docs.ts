// What a Markdown document says that can be wrong: links, anchors, TypeScript, commands and options, scripts, paths of the repository.
// Everything keeps the line it stands on, so that a fault can be found.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, posix, relative } from 'node:path';

export interface Document {
  /** From the root of the repository. */
  name: string;
  text: string;
}

/** A piece of a document, and the line where it begins, from 1. */
export interface Piece {
  text: string;
  line: number;
}

export interface Block extends Piece {
  language: string;
}

/** A document taken apart. */
export interface Parts {
  blocks: Block[];
  /** Inline code. */
  spans: Piece[];
  /** Targets of links and pictures. */
  links: Piece[];
  /** What a link to this document may end in. */
  anchors: Set<string>;
}

/** What is built, installed or not the repository's. */
const kSkipped = new Set(['node_modules', 'build', 'dist', 'prebuilds', 'demo', 'coverage']);

/** Every Markdown document below a folder, by name. */
export function documentsIn(root: string): Document[] {
  const walk = (folder: string): string[] =>
    readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      if (entry.isDirectory()) return kSkipped.has(entry.name) || entry.name.startsWith('.git') ? [] : walk(join(folder, entry.name));
      return entry.name.endsWith('.md') ? [join(folder, entry.name)] : [];
    });
  return walk(root)
    .map((path) => ({ name: relative(root, path), text: readFileSync(path, 'utf8') }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Takes a document apart. */
export function partsOf({ text }: Document): Parts {
  const parts: Parts = { blocks: [], spans: [], links: [], anchors: new Set() };
  const slugs = new Map<string, number>();
  let open: Block | undefined;
  let paragraph: Piece | undefined;
  const close = () => {
    if (paragraph) takeParagraph(paragraph, parts);
    paragraph = undefined;
  };
  for (const [index, line] of text.split('\n').entries()) {
    const at = index + 1;
    const fence = /^\s*```\s*(\S*)/.exec(line);
    if (open !== undefined) {
      if (fence) open = undefined;
      else open.text += `${line}\n`;
      continue;
    }
    const heading = /^#{1,6}\s+(.*?)\s*#*$/.exec(line)?.[1];
    if (fence || heading !== undefined || line.trim() === '') close();
    if (fence) {
      open = { language: fence[1]!, text: '', line: at + 1 };
      parts.blocks.push(open);
    } else {
      if (heading !== undefined) parts.anchors.add(anchorOf(heading, slugs));
      paragraph = paragraph ? { text: `${paragraph.text}\n${line}`, line: paragraph.line } : { text: line, line: at };
    }
  }
  close();
  parts.links.sort((a, b) => a.line - b.line); // one kind of link was looked for after the other
  return parts;
}

/** Code and links may go on in the next line. */
function takeParagraph({ text, line }: Piece, { spans, links, anchors }: Parts): void {
  const lineAt = (index: number) => line + text.slice(0, index).split('\n').length - 1;
  for (const [, name] of text.matchAll(/<a\s[^>]*\b(?:id|name)="([^"]+)"/g)) anchors.add(name!);
  const plain = text.replace(/(`+)([\s\S]+?)\1/g, (code, _ticks, inner: string, index: number) => {
    spans.push({ text: inner.replace(/\s+/g, ' ').trim(), line: lineAt(index) });
    return code.replace(/[^\n]/g, ' '); // what follows keeps its place
  });
  const targets = [/\]\(<?([^()\s>]+(?:\([^()\s]*\))?)>?(?:\s+"[^"]*")?\)/g, /\b(?:src|href)="([^"]+)"/g, /^\s*\[[^\]]+\]:\s+(\S+)/gm];
  for (const target of targets) for (const { 1: link, index } of plain.matchAll(target)) links.push({ text: link!, line: lineAt(index) });
}

/** Headings of one name are told apart by a number. */
function anchorOf(heading: string, slugs: Map<string, number>): string {
  const slug = slugOf(heading);
  const count = slugs.get(slug) ?? 0;
  slugs.set(slug, count + 1);
  return count === 0 ? slug : `${slug}-${count}`;
}

/** The anchor that GitHub gives a heading. */
function slugOf(heading: string): string {
  const shown = heading.replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[`*]/g, '');
  return shown
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

const fault = ({ name }: Document, line: number, text: string): string => `${name}:${line}: ${text}`;

/** Prose that stands in another document, and whose links begin there. */
const kHome: Readonly<Record<string, string>> = { 'bench/notes.md': 'docs/performance.md' };

/** Links that lead to nothing. Those to other places are not followed. */
export function linkFaults(document: Document, root: string, all: readonly Document[]): string[] {
  const home = kHome[document.name] ?? document.name;
  return partsOf(document).links.flatMap(({ text, line }) => {
    if (/^[a-z][a-z+.-]*:/i.test(text)) return [];
    const [path = '', anchor] = decodeURIComponent(text).split('#');
    const target = path === '' ? document.name : posix.join(posix.dirname(home), path);
    if (target.startsWith('..')) return [fault(document, line, `${text} leads out of the repository`)];
    if (path !== '' && !existsSync(join(root, target))) return [fault(document, line, `${text} leads to ${target}, which is not there`)];
    if (anchor === undefined) return [];
    const other = path === '' ? document : all.find(({ name }) => name === target);
    if (other === undefined) return [fault(document, line, `${text} names a place in what is no document`)];
    return partsOf(other).anchors.has(anchor) ? [] : [fault(document, line, `${text}: ${target} has no heading #${anchor}`)];
  });
}

/** A comface command that a document names. */
export interface Command {
  name: string;
  /** Flags, without their values. */
  options: string[];
  line: number;
}

/** What a line of a shell names after `comface`, `npx comface` or `node dist/cli.js`. */
const kCall = /(?:^|[\s(`"'$=])(?:comface|node dist\/cli\.js)\s+([a-z][a-z-]*)(?![\w.:/])([^\n]*)/;
const kShells = new Set(['', 'sh', 'bash', 'shell', 'console', 'text']);

/** Every comface command in the code of a document. */
export function commandsOf(document: Document): Command[] {
  const { blocks, spans } = partsOf(document);
  const lines = blocks.filter(({ language }) => kShells.has(language)).flatMap(linesOf);
  const pieces = [...lines, ...spans].sort((a, b) => a.line - b.line);
  return pieces.flatMap(({ text, line }) =>
    shellWords(text).flatMap((command) => {
      const [, name, rest = ''] = kCall.exec(command) ?? [];
      return name === undefined ? [] : [{ name, options: flagsIn(rest), line }];
    }),
  );
}

/** Lines of a block; one that ends in a backslash goes on. */
function linesOf({ text, line }: Piece): Piece[] {
  const lines: Piece[] = [];
  let begun: Piece | undefined;
  for (const [index, each] of text.split('\n').entries()) {
    begun = begun ? { text: `${begun.text} ${each}`, line: begun.line } : { text: each, line: line + index };
    if (begun.text.endsWith('\\')) begun.text = begun.text.slice(0, -1);
    else {
      lines.push(begun);
      begun = undefined;
    }
  }
  return lines;
}

/** The commands of a line, without its comment. */
const shellWords = (line: string): string[] => line.replace(/(^|\s)#.*$/, '').split(/&&|\|\||[|;]/);

const flagsIn = (text: string): string[] => [...text.matchAll(/(?:^|\s)(--?[A-Za-z][\w-]*(?:\.[\w-]+|\.\*)*)/g)].map(([, flag]) => flag!);

/** `--augment.*` stands for all that begin so. */
const isKnown = (flag: string, known: ReadonlySet<string>): boolean =>
  flag.endsWith('*') ? [...known].some((name) => name.startsWith(flag.slice(0, -1))) : known.has(flag);

/** The options that the help of a command shows. */
export const optionsIn = (help: string): Set<string> =>
  new Set([...help.matchAll(/^ {2}(?:(-\w), )?(--[\w.-]+)/gm)].flatMap(([, short, long]) => (short ? [short, long!] : [long!])));

/**
 * Commands and options that are not there.
 *
 * @param helps Help of each command, by name.
 */
export function commandFaults(document: Document, helps: ReadonlyMap<string, string>): string[] {
  return commandsOf(document).flatMap(({ name, options, line }) => {
    const help = helps.get(name);
    if (help === undefined) return [fault(document, line, `there is no command comface ${name}`)];
    const known = optionsIn(help);
    return options
      .filter((option) => !isKnown(option, known))
      .map((option) => fault(document, line, `comface ${name} has no option ${option}`));
  });
}

/** Inline options that stand alone, such as `--pairs 32`, which no command has. */
export function optionFaults(document: Document, helps: ReadonlyMap<string, string>): string[] {
  const known = new Set([...helps.values()].flatMap((help) => [...optionsIn(help)]));
  return partsOf(document).spans.flatMap(({ text, line }) =>
    text.startsWith('--')
      ? flagsIn(text)
          .filter((flag) => !isKnown(flag, known))
          .map((flag) => fault(document, line, `no command has an option ${flag}`))
      : [],
  );
}

/** `npm run NAME`, npm's own `npm test` too, that package.json does not have. */
export function scriptFaults(document: Document, scripts: Readonly<Record<string, string>>): string[] {
  const { blocks, spans } = partsOf(document);
  return [...blocks.flatMap(linesOf), ...spans].flatMap(({ text, line }) =>
    [...text.matchAll(/\bnpm (?:run (?:-s |--silent )?([\w:.-]+)|(test|start)\b)/g)]
      .map(([, named, own]) => named ?? own!)
      .filter((name) => scripts[name] === undefined)
      .map((name) => fault(document, line, `package.json has no script ${name}`)),
  );
}

/** Words after `npm test --` that no test file has in its name. */
export function testFaults(document: Document, files: readonly string[]): string[] {
  const { blocks, spans } = partsOf(document);
  return [...blocks.flatMap(linesOf), ...spans].flatMap(({ text, line }) => {
    const words = /\bnpm test -- ((?:[a-z][\w/.]*\s*)+)/.exec(text)?.[1]?.trim().split(/\s+/) ?? [];
    return words
      .filter((word) => !files.some((file) => `test/${file}`.includes(word)))
      .map((word) => fault(document, line, `no test file is called ${word}`));
  });
}

/** Folders of the repository whose content is committed. */
const kPath = /^(?:lib|native(?!\/build\/)|test|bench|scripts|docs|examples|\.ci)\/[\w./-]*$/;

/** What was measured once, at a commit that it names. */
const kPast = /<!-- sabotage -->[\s\S]*<!-- end -->/;

/** Inline paths of the repository that lead to nothing. */
export function pathFaults({ name, text: whole }: Document, root: string): string[] {
  const document = { name, text: whole.replace(kPast, (past) => past.replace(/[^\n]/g, '')) };
  return partsOf(document).spans.flatMap(({ text, line }) =>
    kPath.test(text) && !existsSync(join(root, text)) ? [fault(document, line, `there is no ${text}`)] : [],
  );
}

/** A name for a file of a block: where it stands. */
export const blockName = ({ name }: Document, { line }: Block): string =>
  `${dirname(name).replaceAll('/', '-')}-${basename(name)}-${line}.ts`;
