// Reads landmarks from a .pts file, as FG-NET has them: "version: 1", "n_points: 68", and a line "x y" for each point between braces.
import { show } from '../errors.js';
import type { Point } from './align.js';

/** No scheme has more. */
const kMostPoints = 1000;
const kNumber = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i;

/**
 * The points of a .pts file, in pixels.
 *
 * @param text Lines end in LF, CR LF or CR.
 * @returns The points, or what is wrong.
 */
export function parsePoints(text: string): Point[] | string {
  const head = /^\ufeff?\s*version\s*:\s*\d+\s+n_points\s*:\s*(\d{1,9})\s*\{/i.exec(text);
  if (!head) return 'expected "version: 1", "n_points: N" and "{" at its beginning';
  const count = Number(head[1]);
  if (count === 0 || count > kMostPoints) return `expected 1 to ${kMostPoints} points but found n_points: ${count}`;
  const end = text.indexOf('}', head[0].length);
  if (end < 0) return 'expected "}" at its end: it is incomplete';
  if (text.slice(end + 1).trim() !== '') return 'there is more behind its "}"';
  const words = text
    .slice(head[0].length, end)
    .trim()
    .split(/\s+/, 2 * kMostPoints + 1);
  if (words.length !== 2 * count) return `expected ${count} points of two numbers but found ${words[0] === '' ? 0 : words.length} numbers`;
  const wrong = words.findIndex((word) => !kNumber.test(word) || !Number.isFinite(Number(word)));
  if (wrong >= 0) return `point ${wrong >> 1}: expected a number but found ${show(words[wrong])}`;
  return Array.from({ length: count }, (_, i) => [Number(words[2 * i]), Number(words[2 * i + 1])]);
}
