import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManifestParser, readManifest, writeManifest } from '../lib/data/manifest.ts';
import { ComFaceError } from '../lib/errors.ts';

const header = { size: 64, count: 2, seed: '1', domain: 0, attributes: ['smile', 'Big_Nose'] };
const first = { file: '000012/smile/03.jpg', subject: 12, attribute: 'smile', alpha: 2.5 };
const second = { file: '000012/Big_Nose/03.jpg', subject: 12, attribute: 'Big_Nose', alpha: -5 };
const headerLine = JSON.stringify({ format: 'comface-faces', version: 1, ...header });

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'comface-manifest-'));
  path = join(folder, 'manifest.jsonl');
  for (const { file } of [first, second]) {
    await mkdir(join(folder, file, '..'), { recursive: true });
    await writeFile(join(folder, file), 'jpeg');
  }
});
afterEach(() => rm(folder, { recursive: true }));

describe('a manifest', () => {
  it('comes back as it was written', async () => {
    await writeManifest(folder, header, [first, second]);
    expect(await readManifest(folder)).toEqual({
      folder,
      size: 64,
      files: [join(folder, first.file), join(folder, second.file)],
      lines: Uint32Array.of(2, 3),
      subject: Uint32Array.of(12, 12),
      attribute: Uint16Array.of(0, 1),
      attributes: ['smile', 'Big_Nose'],
      alpha: Float32Array.of(2.5, -5),
      hash: createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    });
  });

  it('has the agreed lines and leaves no temporary file', async () => {
    await writeManifest(folder, header, [first, second]);
    expect(await readFile(path, 'utf8')).toBe(`${headerLine}\n${JSON.stringify(first)}\n${JSON.stringify(second)}\n`);
    expect((await readdir(folder)).sort()).toEqual(['000012', 'manifest.jsonl']);
  });

  it('may end without a line feed and hold further keys', async () => {
    await writeFile(path, `${headerLine}\n${JSON.stringify({ ...first, note: 'x' })}\n${JSON.stringify(second)}`);
    expect((await readManifest(folder)).files.length).toBe(2);
  });

  it('may hold alphas as large as a float', async () => {
    await writeManifest(folder, header, [
      { ...first, alpha: 3.4e38 },
      { ...second, alpha: -3.4e38 },
    ]);
    expect([...(await readManifest(folder)).alpha]).toEqual([Math.fround(3.4e38), -Math.fround(3.4e38)]);
  });

  it('is read across the ends of blocks', async () => {
    const rows = Array.from({ length: 600 }, (_, i) => ({ ...first, file: `${i}.jpg`, subject: i, note: 'ä'.repeat(1000) }));
    for (const { file } of rows) writeFileSync(join(folder, file), '');
    const text = [JSON.stringify({ ...JSON.parse(headerLine), count: rows.length }), ...rows.map((row) => JSON.stringify(row))].join('\n');
    expect(Buffer.byteLength(text)).toBeGreaterThan(1 << 20);
    await writeFile(path, text);
    const manifest = await readManifest(folder);
    expect(manifest.subject.every((subject, i) => subject === i)).toBe(true);
    expect(manifest.lines.at(-1)).toBe(601);
  });

  it('of which the writing fails leaves the old one', async () => {
    await writeManifest(folder, header, [first, second]);
    const rows = function* () {
      yield first;
      throw new Error('no more');
    };
    await expect(writeManifest(folder, header, rows())).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining('no more') });
    expect((await readManifest(folder)).files.length).toBe(2);
    expect((await readdir(folder)).length).toBe(2);
  });
});

describe('a line that is wrong', () => {
  it.each([
    ['', 'a JSON object but found an empty line'],
    ['{"file": ', 'a JSON object but found "{\\"file\\": "'],
    ['[1]', 'a JSON object but found [1]'],
    [{ subject: -1 }, 'an integer from 0 to 4294967295 for `subject` but found -1'],
    [{ subject: '12' }, 'an integer from 0 to 4294967295 for `subject` but found "12"'],
    [{ subject: undefined }, 'an integer from 0 to 4294967295 for `subject` but found undefined'],
    [{ alpha: null }, 'a number from -3.4e+38 to 3.4e+38 for `alpha` but found null'],
    [{ alpha: 1e308 }, 'a number from -3.4e+38 to 3.4e+38 for `alpha` but found 1e+308'],
    [{ alpha: -3.5e38 }, 'a number from -3.4e+38 to 3.4e+38 for `alpha` but found -3.5e+38'],
    [{ attribute: 'Smile' }, 'an attribute of the header for `attribute` but found "Smile"'],
    [{ attribute: '__proto__' }, 'an attribute of the header for `attribute` but found "__proto__"'],
    [{ attribute: { toString: 1, valueOf: 1 } }, 'an attribute of the header for `attribute` but found {"toString":1,"valueOf":1}'],
    [{ file: '../x.jpg' }, 'a path inside the folder for `file` but found "../x.jpg"'],
    [{ file: 'a/../../x.jpg' }, 'a path inside the folder for `file` but found "a/../../x.jpg"'],
    [{ file: '/etc/passwd' }, 'a path inside the folder for `file` but found "/etc/passwd"'],
    [{ file: 'a\\..\\x.jpg' }, 'a path inside the folder for `file` but found "a\\\\..\\\\x.jpg"'],
    [{ file: 'a\0.jpg' }, 'a path inside the folder for `file` but found "a\\u0000.jpg"'],
    [{ file: './000012/smile/03.jpg' }, 'a path inside the folder for `file` but found "./000012/smile/03.jpg"'],
    [{ file: '' }, 'a path inside the folder for `file` but found ""'],
    [{ file: first.file }, 'each picture once but found "000012/smile/03.jpg"'],
  ])('%j is named with path and number', async (change, message) => {
    await writeFile(
      path,
      `${headerLine}\n${JSON.stringify(first)}\n${typeof change === 'string' ? change : JSON.stringify({ ...second, ...change })}\n`,
    );
    await expect(readManifest(folder)).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: `${path}:3: Expected ${message}`,
      hint: expect.any(String),
    });
  });

  it('of bytes that are no UTF-8 is named', async () => {
    await writeFile(path, Buffer.concat([Buffer.from(`${headerLine}\n`), Buffer.of(0x7b, 0xff, 0x0a)]));
    expect(await messageOf()).toBe(`${path}:2: Expected UTF-8 text but found the bytes 7bff`);
  });

  it('without an end is not read into memory', async () => {
    await writeFile(path, 'x'.repeat(3 << 20));
    expect(await messageOf()).toContain(`${path}:1: Expected lines under 1048576 bytes`);
  });

  it('among 15,000 whose names would fill one slot of a table takes no seconds', async () => {
    // They differ in bits that a plain FNV-1a leaves out of a table of 2^14 slots.
    const name = (i: number) => Array.from({ length: 14 }, (_, bit) => String.fromCharCode(0x61 + 0x8000 * ((i >> bit) & 1))).join('');
    const parser = new ManifestParser('/data', 1e9);
    const start = performance.now();
    const count = 15_000;
    const rows = Array.from({ length: count }, (_, i) => JSON.stringify({ ...first, file: name(i) }));
    parser.push(Buffer.from([JSON.stringify({ ...JSON.parse(headerLine), count }), ...rows].join('\n')));
    expect(parser.finish().files.length).toBe(count);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it('in the header is named', async () => {
    const rows = `\n${JSON.stringify(first)}\n${JSON.stringify(second)}\n`;
    const found = async (change: object) => {
      await writeFile(path, JSON.stringify({ ...JSON.parse(headerLine), ...change }) + rows);
      return (await messageOf()).replace(`${path}:1: Expected `, '');
    };
    expect(await found({ format: 'x' })).toBe('"comface-faces" for `format` but found "x"');
    expect(await found({ version: 2 })).toBe('1 for `version` but found 2');
    expect(await found({ size: 0 })).toBe('an integer from 8 to 65535 for `size` but found 0');
    expect(await found({ count: 4e9 })).toMatch(/^a `count` that fits into the file of \d+ bytes but found 4000000000$/);
    expect(await found({ seed: 1 })).toBe('a text for `seed` but found 1');
    expect(await found({ attributes: ['a', 'a'] })).toBe('a list of different names for `attributes` but found ["a","a"]');
  });

  it('is the one after the last when there are fewer or more than the header says', async () => {
    await writeManifest(folder, header, [first]);
    expect(await messageOf()).toBe(`${path}:3: Expected the 2 pictures of the header but found the end after 1`);
    await writeManifest(folder, { ...header, count: 1 }, [first, second]);
    expect(await messageOf()).toContain(`${path}:3: Expected no line after the 1 pictures of the header but found`);
  });
});

describe('a picture', () => {
  beforeEach(() => writeManifest(folder, header, [first, second]));
  const place = () => join(folder, second.file);

  it('that is missing is named with its line', async () => {
    await rm(place());
    await expect(readManifest(folder)).rejects.toMatchObject({
      code: 'IO',
      message: `${path}:3: Expected the picture ${place()} but found no such file`,
    });
  });

  it('that is a folder is refused', async () => {
    await rm(place());
    await mkdir(place());
    expect(await messageOf()).toContain('something that is not a file');
  });

  it('that is a link may lead inside the folder but not out of it', async () => {
    await rm(place());
    await symlink('../smile/03.jpg', place());
    expect((await readManifest(folder)).files.length).toBe(2);
    await rm(place());
    await symlink('/etc/hostname', place());
    expect(await messageOf()).toContain('a link out of the folder to /etc/hostname');
    await rm(place());
    await symlink('nothing', place());
    expect(await messageOf()).toContain('a link to nothing');
  });
});

describe('a folder', () => {
  it('that is missing, empty, a file or without a manifest is told apart', async () => {
    const empty = join(folder, 'empty');
    await mkdir(empty);
    const hint = 'Make one with `comface generate --out DIR` or `comface pack PICTURES --out DIR`, and name DIR.';
    const refuse = (name: string, found: string) =>
      expect(readManifest(name)).rejects.toMatchObject({ code: 'IO', message: `Cannot read the data folder ${name}: ${found}`, hint });
    await refuse(join(folder, 'none'), 'there is no such folder');
    await refuse(empty, 'it is empty');
    await refuse(join(folder, first.file), 'it is a file');
    await refuse(folder, 'it has no manifest.jsonl');
  });

  it('with an empty manifest is refused', async () => {
    await writeFile(path, '');
    expect(await messageOf()).toBe(`${path}:1: Expected a header but found nothing`);
  });
});

async function messageOf(): Promise<string> {
  const error = await readManifest(folder).catch((cause: unknown) => cause);
  if (error instanceof ComFaceError) return error.message;
  throw error;
}
