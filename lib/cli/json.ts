// What --json prints. Any JSON parser reads back what the library gave: names as they were, whatever signs are in them; what is no finite number is null.
import { printable } from '../errors.js';

/** A list of numbers alone. Its line ends are JSON's own: those of a text are escaped. */
const kNumbers = /\[\n\s+((?:-?[\d.e+-]+|null)(?:,\n\s+(?:-?[\d.e+-]+|null))*)\n\s*\]/g;

/** A result, two spaces a level, a list of numbers on one line. */
export function jsonText(value: object): string {
  const text = JSON.stringify(value, plain, 2).replace(kNumbers, (_, list: string) => `[${list.replace(/\s+/g, ' ')}]`);
  // A terminal obeys what JSON leaves as it is; escaped, it is the same text to a parser.
  return text.split('\n').map(printable).join('\n');
}

/** On one line, for standard error. */
export const jsonLine = (value: object): string => printable(JSON.stringify(value, plain));

/** What JSON has no form for. */
function plain(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  return ArrayBuffer.isView(value) && !(value instanceof DataView) ? Array.from(value as unknown as ArrayLike<unknown>) : value;
}
