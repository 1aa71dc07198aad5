// The edits of test/figures/sabotages.mjs fit the sources as they are: one that no longer applies proves nothing, and nobody would notice.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { figureNames } from './figures/document.mjs';
import { sabotages, unbroken } from './figures/sabotages.mjs';

describe('sabotages', () => {
  test.each(sabotages)('$figure, $what: its text stands once in $file', ({ file, from, to }) => {
    const text = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
    expect(text.split(from).length - 1, `expected once in ${file}: ${from}`).toBe(1);
    expect(to).not.toBe(from);
  });

  test('break every figure of docs/reliability.md, but for those that say why not', () => {
    const broken = new Set(sabotages.map(({ figure }) => figure));
    expect([...broken, ...Object.keys(unbroken)].sort()).toEqual(figureNames().sort());
  });
});
