// How messages name an option on the command line: as the user gave it. The library says `pairsPerEpoch`; here that becomes
// --pairs-per-epoch, or the key with its place in the file of options that it came from.
import type { Command } from 'commander';
import type { Config } from './config.js';
import { ComFaceError, type ErrorCode, printable } from './errors.js';

/** Only these speak of options: a manifest has a `size`, too. */
const codes: readonly ErrorCode[] = ['INVALID_CONFIG', 'INVALID_INPUT'];
const kWordLetters = 80;

/** A dotted name in backticks with the number of an element, and the flag where the message says it already. */
const kName = /`([a-zA-Z][\w.]*)(?:\[(\d+)\])?`(?: \(--[\w.-]+\))?/g;
const kReceived = /^(.* for `([a-zA-Z][\w.]*)(?:\[(\d+)\])?` but received )(.*)$/;

/** The options of one command. Made before the command line is parsed: it keeps the words, of which commander keeps the values alone. */
export class GivenOptions {
  readonly #flags = new Map<string, string>();
  readonly #words = new Map<string, string>();
  #file: (Config & { path: string }) | undefined;

  /** @param aliases What the library calls an option where that is another name. */
  constructor(command: Command, aliases: Readonly<Record<string, string>> = {}) {
    for (const option of command.options) {
      const name = option.attributeName();
      const names = [name, ...Object.keys(aliases).filter((alias) => aliases[alias] === name)];
      for (const one of names) this.#flags.set(one, option.long!);
      command.on(`option:${option.name()}`, (word: string | null) => {
        for (const one of names) this.#words.set(one, word ?? '');
      });
    }
  }

  /** Options of a file that the flags stand over. */
  addFile(path: string, file: Config): void {
    this.#file = { ...file, path };
  }

  /** The same error in the user's words. */
  explain(error: ComFaceError): ComFaceError {
    if (!codes.includes(error.code)) return error;
    const hint = error.hint === undefined ? {} : { hint: this.#rename(error.hint) };
    return new ComFaceError(error.code, this.#rename(this.#quote(error.message)), { ...hint, cause: error.cause });
  }

  #rename(text: string): string {
    return text.replace(kName, (whole, name: string, element?: string) => {
      const place = element === undefined ? '' : `[${element}]`;
      const line = this.#words.has(name) ? undefined : this.#file?.lineOf(name);
      if (line !== undefined) return `\`${name}${place}\` (${printable(this.#file!.path)}:${line})`;
      const flag = this.#flags.get(name);
      if (flag === undefined) return whole;
      return element === undefined ? flag : `number ${Number(element) + 1} of ${flag}`;
    });
  }

  /** A number as it was typed: 9007199254740993, which no number holds, and not the nearest that one does. */
  #quote(message: string): string {
    const [, start, name, element, received] = kReceived.exec(message) ?? [];
    const word = name === undefined ? undefined : this.#words.get(name);
    const typed = (element === undefined ? word : word?.split(',')[Number(element)])?.trim();
    if (typed === undefined || typed === '' || String(Number(typed)) !== received) return message;
    return start + typed.slice(0, kWordLetters);
  }
}
