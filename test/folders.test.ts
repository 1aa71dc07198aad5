import { readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { generate } from '../lib/data/procedural.ts';
import { makeFolder } from '../lib/folders.ts';
import { smallSet } from './faces.ts';
import { temporaryFolder } from './support.ts';

test('a folder is made with its parents, and the topmost new one is told', async () => {
  const root = temporaryFolder();
  expect(await makeFolder(join(root, 'a', 'b', 'c'))).toBe(join(root, 'a'));
  expect(await makeFolder(join(root, 'a', 'b', 'c'))).toBeUndefined();
  expect(await makeFolder(join(root, 'a', 'b', 'd', '..', 'e'))).toBe(join(root, 'a', 'b', 'e'));
  expect(readdirSync(join(root, 'a', 'b'))).toEqual(['c', 'e']);
});

test('many may make the same folder at once', async () => {
  const folder = join(temporaryFolder(), 'a', 'b');
  await Promise.all(Array.from({ length: 20 }, () => makeFolder(folder)));
  expect(readdirSync(join(folder, '..'))).toEqual(['b']);
});

test.each([
  ['a file in its place', (root: string) => join(root, 'file'), 'EEXIST'],
  ['a file above it', (root: string) => join(root, 'file', 'a'), 'ENOTDIR'],
  ['a link to nothing in its place', (root: string) => join(root, 'link'), 'EEXIST'],
  ['a place where no folder can be made', () => '/proc/x', 'ENOENT'],
  ['a parent in such a place', () => '/proc/x/y/z', 'ENOENT'],
])(
  'with %s it is refused at once',
  async (_, path, code) => {
    const root = temporaryFolder();
    writeFileSync(join(root, 'file'), '');
    symlinkSync(join(root, 'nowhere'), join(root, 'link'));
    await expect(makeFolder(path(root))).rejects.toMatchObject({ code });
  },
  5000,
);

test('a data set where no folder can be made is refused', async () => {
  await expect(generate({ ...smallSet, out: '/proc/x' })).rejects.toMatchObject({
    code: 'IO',
    message: expect.stringContaining('/proc/x'),
    hint: expect.any(String),
  });
}, 5000);
