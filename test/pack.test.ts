// Packing one's own pictures: what goes in comes out, upright and square, however the packing was interrupted; what does not go in is named.
import { createHash } from 'node:crypto';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { readData } from '../lib/data/dataset.ts';
import { pack } from '../lib/data/pack.ts';
import { PairSampler } from '../lib/data/pairs.ts';
import type { ComFaceError } from '../lib/errors.ts';
import { train } from '../lib/train/train.ts';
import { plainAugment, planOf, sharedFolder, smallRun } from './faces.ts';
import { digest, temporaryFolder, withFileLimit } from './support.ts';
import { packOptions as options } from './tasks.ts';

const shared = sharedFolder();
const photos = join(shared, 'photos');

/** A picture whose left upper, right upper, left lower and right lower quarters have these colors. */
function quarters(edge: number, colors: string) {
  const half = edge / 2;
  const parts = [...colors].map((color, i) => ({
    input: {
      create: { width: half, height: half, channels: 3 as const, background: { R: '#f00', G: '#0f0', B: '#00f' }[color] ?? '#fff' },
    },
    left: (i % 2) * half,
    top: Math.floor(i / 2) * half,
  }));
  return sharp({ create: { width: edge, height: edge, channels: 3, background: '#000' } }).composite(parts);
}

const gray = (level: number): string => `rgb(${level},${level},${level})`;

/** A picture of one color. */
async function save(file: string, level: number, format: 'jpg' | 'png' | 'webp' = 'png', edge = 48): Promise<void> {
  mkdirSync(dirname(file), { recursive: true });
  await sharp({ create: { width: edge, height: edge, channels: 3, background: gray(level) } }).toFile(`${file}.${format}`);
}

/** Mean level of each picture of a set, as the training reader sees it. */
async function levels(folder: string): Promise<number[]> {
  const data = await readData(folder);
  const samples = Array.from({ length: data.count }, (_, i) => i);
  const source = data.open(8, 2);
  const { images } = await source.fill(planOf(samples, samples), plainAugment);
  source.dispose();
  const pixels = 3 * 8 * 8;
  return samples.map((i) => Math.round((255 * images.subarray(i * pixels, (i + 1) * pixels).reduce((a, b) => a + b)) / pixels));
}

beforeAll(async () => {
  for (const [i, name] of ['bert', 'anna'].entries())
    for (const [j, alpha] of ['2', '-1.5', '0_tuesday'].entries())
      await save(join(photos, name, alpha), 40 * (3 * i + j), (['jpg', 'png', 'webp'] as const)[j]);
});

describe('a folder of pictures', () => {
  test('becomes a set by subject and alpha, in which every picture is what it was', async () => {
    const { data, rejected, picturesFile } = await pack(options(photos));
    expect([data.count, data.size, data.attributes, rejected]).toEqual([6, 32, ['change'], []]);
    expect(await readFile(picturesFile, 'utf8')).toBe(
      [
        'picture,subject,number,attribute,alpha,path,session,phase',
        '0,anna,0,change,-1.5,anna/-1.5.png,,',
        '1,anna,0,change,0,anna/0_tuesday.webp,,',
        '2,anna,0,change,2,anna/2.jpg,,',
        '3,bert,1,change,-1.5,bert/-1.5.png,,',
        '4,bert,1,change,0,bert/0_tuesday.webp,,',
        '5,bert,1,change,2,bert/2.jpg,,',
        '',
      ].join('\n'),
    );
    const groups = data.groupsOf(new Set([1]));
    expect([0, 1, 2].map((place) => [groups.sampleAt(place), groups.alphaAt(place)])).toEqual([
      [3, -1.5],
      [4, 0],
      [5, 2],
    ]);
    expect(await levels(data.folder)).toEqual([160, 200, 120, 40, 80, 0]);
  });

  test('may have attributes, and people with numbers, which they keep', async () => {
    const from = temporaryFolder();
    for (const file of ['7/smile/1', '7/smile/2', '12/age/30', '12/age/41', '12/smile/0']) await save(join(from, file), 90);
    const { data } = await pack(options(from));
    expect([data.attributes, [...data.subjects]]).toEqual([
      ['age', 'smile'],
      [7, 12],
    ]);
    expect(Array.from({ length: 5 }, (_, i) => data.attributeOf(i))).toEqual([1, 1, 0, 0, 1]);
    // A picture that has nobody to be compared with is replaced by one that has.
    const sampler = new PairSampler(data, data.subjects, {
      seed: 1,
      pairs: 5,
      pairsPerEpoch: undefined,
      target: 'signed',
      rangeAt: () => 100,
    });
    const { x, y, target } = sampler.plan(1);
    const pairs = new Set(Array.from(x, (from, i) => `${from}>${y[i]} ${target[i]}`));
    expect([...pairs].sort()).toEqual(['0>1 1', '1>0 -1', '2>3 11', '3>2 -11']);
  });

  test('is trained on', async () => {
    const from = temporaryFolder();
    for (const who of ['a', 'b', 'c', 'd']) for (const alpha of [-1, 0, 1]) await save(join(from, who, String(alpha)), 60 * (alpha + 2));
    const { data } = await pack(options(from, { quality: 90 }));
    const { path } = await train({ ...smallRun, data: data.folder, out: join(temporaryFolder(), 'run'), validation: 0.3 });
    expect(path).toMatch(/checkpoints\/step-00000006$/);
  });

  test('turns upright what EXIF says lies', async () => {
    const from = temporaryFolder();
    // As a camera stores them that was held so: upright they are red, green over blue, white.
    const stored = ['RGBW', 'GRWB', 'WBGR', 'BWRG', 'RBGW', 'GWRB', 'WGBR', 'BRWG'];
    mkdirSync(join(from, 'a'), { recursive: true });
    for (const [i, colors] of stored.entries()) {
      const picture = quarters(64, colors).withMetadata({ orientation: i + 1 });
      await picture.jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toFile(join(from, 'a', `${i + 1}.jpg`));
    }
    const { data } = await pack(options(from));
    const bytes = await readFile(join(data.folder, '00000.shard'));
    for (let i = 0; i < 8; i++) {
      const at = bytes.readUInt32LE(64 + 8 * i);
      const pixel = (x: number, y: number) =>
        [...bytes.subarray(at + 3 * (32 * y + x), at + 3 * (32 * y + x) + 3)].map((v) => (v > 128 ? 1 : 0));
      expect([pixel(8, 8), pixel(24, 8), pixel(8, 24), pixel(24, 24)]).toEqual([
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 1],
      ]);
    }
  });

  test('takes the middle of what is not square, gray for what is transparent, and one picture of several', async () => {
    const from = temporaryFolder();
    mkdirSync(join(from, 'a'));
    const wide = sharp({ create: { width: 96, height: 32, channels: 3, background: '#fff' } });
    const black = { create: { width: 32, height: 32, channels: 3 as const, background: '#000' } };
    await wide.composite([{ input: black, left: 32, top: 0 }]).toFile(join(from, 'a', '1.png'));
    await sharp({ create: { width: 32, height: 32, channels: 4, background: { r: 255, g: 0, b: 0, alpha: 0 } } }).toFile(
      join(from, 'a', '2.png'),
    );
    await sharp({ create: { width: 32, height: 32, channels: 3, background: '#fff' } })
      .toColourspace('b-w')
      .toFile(join(from, 'a', '3.png'));
    const frames = Buffer.concat([Buffer.alloc(32 * 32 * 3, 255), Buffer.alloc(32 * 32 * 3, 0)]);
    const animation = sharp(frames, { raw: { width: 32, height: 64, channels: 3, pageHeight: 32 } });
    await animation.gif().toFile(join(from, 'a', '4.gif'));
    await sharp({ create: { width: 32, height: 32, channels: 3, background: '#fff' } })
      .toColourspace('cmyk')
      .tiff()
      .toFile(join(from, 'a', '5.tiff'));
    const { data } = await pack(options(from));
    const found = await levels(data.folder);
    expect(found.map((level, i) => Math.abs(level - [0, 128, 255, 255, 255][i]!) <= 4)).toEqual([true, true, true, true, true]);
  });
});

describe('a list of pictures', () => {
  const list = (folder: string, text: string): string => {
    writeFileSync(join(folder, 'list.csv'), text, text.includes('J\xf6rg') ? 'latin1' : 'utf8');
    return join(folder, 'list.csv');
  };

  test('says who, what and how far, by alpha or by a label in its own unit', async () => {
    const from = temporaryFolder();
    await save(join(from, 'x y'), 10);
    await save(join(from, 'b'), 20);
    await save(join(from, 'c'), 30);
    const text =
      '\ufeffsubject,path,label,attribute\n"Anna ""A"", Dr.","x y.png",71.25,weight\n\n"Anna ""A"", Dr.",b.png,68.5,weight\r\n"Anna ""A"", Dr.",c.png,1e1,\n';
    const { data, picturesFile } = await pack(options(list(from, text), { attribute: 'smile' }));
    expect((await readFile(picturesFile, 'utf8')).split('\n').slice(1, -1)).toEqual([
      '0,"Anna ""A"", Dr.",0,smile,10,c.png,,',
      '1,"Anna ""A"", Dr.",0,weight,68.5,b.png,,',
      '2,"Anna ""A"", Dr.",0,weight,71.25,x y.png,,',
    ]);
    expect(await levels(data.folder)).toEqual([30, 20, 10]);
  });

  test('may be UTF-16, have columns without a name, and write one name in two ways', async () => {
    const from = temporaryFolder();
    for (const name of ['a', 'b']) await save(join(from, name), 10);
    const text = `\ufeffpath,subject,alpha,,\na.png,Ren\u00e9,0.1,,\nb.png,Rene\u0301,71.1,,\n`;
    writeFileSync(join(from, 'list.csv'), Buffer.from(text, 'utf16le'));
    const { picturesFile } = await pack(options(join(from, 'list.csv')));
    expect((await readFile(picturesFile, 'utf8')).split('\n').slice(1, -1)).toEqual([
      '0,Ren\u00e9,0,change,0.1,a.png,,',
      '1,Ren\u00e9,0,change,71.1,b.png,,',
    ]);
  });

  test('names each line that cannot be used, and why', async () => {
    const from = temporaryFolder();
    const outside = join(temporaryFolder(), 'z');
    await save(outside, 1);
    for (const name of ['a', 'b']) await save(join(from, name), 10);
    symlinkSync(`${outside}.png`, join(from, 'link.png'));
    symlinkSync('a.png', join(from, 'inner.png'));
    writeFileSync(join(from, 'empty.png'), '');
    mkdirSync(join(from, 'folder.png'));
    const rows: [string, string][] = [
      ['a.png,x,1', ''],
      ['b.png,x,2', ''],
      ['a.png,y,1', 'it is listed as of "x" and of "y"'],
      ['b.png,x,3', 'it is listed twice for "change"'],
      ['inner.png,x,3', 'it is listed twice for "change"'],
      ['c.png,x,1', 'there is no such file'],
      [`${outside}.png,x,1`, `it lies outside of ${from}`],
      ['../list.csv,x,1', 'there is no such file'],
      ['link.png,x,1', `it is a link out of the folder, to ${outside}.png`],
      ['empty.png,x,1', 'the file is empty'],
      ['folder.png,x,1', 'it is not a file'],
      ['b.png,,1', 'line 13: it has no subject'],
      [',x,1', 'line 14: it has no path'],
      ['b.png,x,one', 'line 15: expected a number for alpha but found "one"'],
      ['b.png,x,1e39', 'line 16: expected a number for alpha but found "1e39"'],
      ['b.png,x,NaN', 'line 17: expected a number for alpha but found "NaN"'],
      ['b.png,x', 'line 18: expected a number for alpha but found ""'],
      ['b.png,x,1,5', 'line 19: it has 4 cells in 3 columns; quote what holds a comma'],
      [`b.png,${'x'.repeat(201)},1`, 'line 20: a name of more than 200 letters'],
      ['b.png\0,x,1', 'line 21: its path holds a NUL'],
      ['list.csv,x,1', 'it is damaged, or no picture in a format that can be read (jpeg, png, webp, gif, tiff, heif)'],
    ];
    const { data, rejected, rejectedFile } = await pack(options(list(from, `path,subject,alpha\n${rows.map(([row]) => row).join('\n')}`)));
    expect(data.count).toBe(2);
    expect(rejected.map(({ reason }) => reason)).toEqual(rows.flatMap(([, reason]) => (reason === '' ? [] : [reason])));
    expect(rejected.map(({ path }) => path).slice(0, 3)).toEqual(['a.png', 'b.png', 'inner.png']);
    expect((await readFile(rejectedFile, 'utf8')).split('\n')).toHaveLength(rejected.length + 2);
  });

  test.each([
    ['', /list\.csv:1: expected the names of the columns but the file is empty/],
    ['path,alpha\n', /:1: expected a column `subject` but found "path,alpha"/],
    ['path,subject\n', /:1: expected a column `alpha` or `label` but/],
    ['path,subject,alpha,label\n', /:1: expected a column `alpha` or `label` but/],
    ['path,subject,alpha,path\n', /:1: expected each column once/],
    ['path,subject,alpha,x1,y1,x2\n', /:1: expected landmarks x1,y1 to xN,yN with N = 5, 66, 68 but found 1\.5 points/],
    ['path,subject,alpha\n"a.png,x,1\n', /:\d: Quote Not Closed/],
    ['path;subject;alpha\na.png;x;1\n', /:1: expected commas between the columns but found ";"$/],
    ['path,subject,alpha\na.png,J\xf6rg,1\n', /list\.csv: expected UTF-8 text but found other bytes at line 1 or later$/],
  ])('that is none is refused with its line: %j', async (text, message) => {
    await expect(pack(options(list(temporaryFolder(), text)))).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringMatching(message),
    });
  });

  test('with landmarks is aligned by them, whatever way the picture lies', async () => {
    const from = temporaryFolder();
    // Eyes red and green, mouth blue, turned by 30 degrees and moved; nose and second corner of the mouth by symmetry.
    const turn = (x: number, y: number) =>
      [150 + x * Math.cos(0.5) - y * Math.sin(0.5), 120 + x * Math.sin(0.5) + y * Math.cos(0.5)] as const;
    const points = [turn(-20, -20), turn(20, -20), turn(0, 0), turn(-15, 25), turn(15, 25)];
    const dots = [points[0]!, points[1]!, turn(0, 25)].map(([x, y], i) => ({
      input: { create: { width: 9, height: 9, channels: 3 as const, background: ['#f00', '#0f0', '#00f'][i]! } },
      left: Math.round(x - 4.5),
      top: Math.round(y - 4.5),
    }));
    const picture = sharp({ create: { width: 300, height: 240, channels: 3, background: '#fff' } }).composite(dots);
    await picture.png().toFile(join(from, '1.png'));
    await sharp(await picture.png().toBuffer())
      .rotate(-90)
      .withMetadata({ orientation: 6 })
      .png()
      .toFile(join(from, '2.png'));
    const numbers = points.flat().join(',');
    const names = points.flatMap((_, i) => [`x${i + 1}`, `y${i + 1}`]).join(',');
    const { data, rejected } = await pack(
      options(
        list(
          from,
          `path,subject,alpha,${names}\n1.png,a,1,${numbers}\n2.png,a,2,${numbers}\n1.png,b,1${',900'.repeat(10)}\n2.png,a,3,1,2\n`,
        ),
        { size: 160 },
      ),
    );
    expect(rejected.map(({ reason }) => reason)).toEqual(['it is listed as of "a" and of "b"', 'line 5: landmark 2 is not two numbers']);
    const bytes = await readFile(join(data.folder, '00000.shard'));
    for (const i of [0, 1]) {
      const start = bytes.readUInt32LE(64 + 8 * i);
      const pixels = bytes.subarray(start, start + 160 * 160 * 3);
      // The square: eyes 40 apart, 45 above the mouth, so 1.8 x 45 = 81 pixels each way from 4.5 below the eyes' middle.
      const expected = [
        [-20, -4.5],
        [20, -4.5],
        [0, 40.5],
      ].map(([x, y]) => [80 + (80 * x!) / 81, 80 + (80 * y!) / 81]);
      for (const [channel, [x, y]] of expected.entries()) {
        const [foundX, foundY] = middle(pixels, 160, channel);
        expect(Math.hypot(foundX! - x!, foundY! - y!)).toBeLessThan(1);
      }
    }
  });

  test('whose landmarks are elsewhere, or a point, is refused by name', async () => {
    const from = temporaryFolder();
    for (const name of ['a', 'b', 'c', 'd']) await save(join(from, name), 10);
    const rows = [`a.png,x,1${',24'.repeat(10)}`, `b.png,x,2${',900'.repeat(8)},950,950`, `c.png,x,3,-1e30,5,1e30,5,0,0,10,40,20,40`];
    const sound = 'd.png,x,4,18,18,30,18,24,24,20,30,28,30\nd.png,x,4,18,18,30,18,24,24,20,30,28,30';
    const names = Array.from({ length: 5 }, (_, i) => `x${i + 1},y${i + 1}`).join(',');
    const error: ComFaceError = await pack(options(list(from, `path,subject,alpha,${names}\n${rows.join('\n')}\n${sound}\n`))).catch(
      (e) => e,
    );
    expect(error.message).toMatch(
      /with different alphas in .* but found none among 1 of 1 subjects; a\.png: its landmarks are all one point$/,
    );
  });
});

/** Where the pixels lie that have most of a color and least of the others. */
function middle(pixels: Uint8Array, edge: number, channel: number): number[] {
  let [x, y, count] = [0, 0, 0];
  for (let i = 0; i < edge * edge; i++) {
    const [wanted, ...others] = [0, 1, 2].map((c) => pixels[3 * i + ((channel + c) % 3)]!);
    if (wanted! - Math.max(...others) < 100) continue;
    [x, y, count] = [x + (i % edge) + 0.5, y + Math.floor(i / edge) + 0.5, count + 1];
  }
  return [x / count, y / count];
}

describe('pictures that are no good', () => {
  test('are left out, each with its reason', async () => {
    const from = temporaryFolder();
    await cp(photos, from, { recursive: true });
    const write = (name: string, bytes: Uint8Array | string) => writeFileSync(join(from, 'bert', name), bytes);
    const jpeg = await sharp({ create: { width: 64, height: 64, channels: 3, background: '#777' } })
      .jpeg()
      .toBuffer();
    write('3.jpg', jpeg.subarray(0, jpeg.length - 20));
    write('4.png', '');
    write('5.jpg', 'text');
    write('6.svg', '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>');
    write('7.png', '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>');
    write(
      '8.jpg',
      await sharp({ create: { width: 10_000, height: 10_000, channels: 3, background: '#777' } })
        .jpeg()
        .toBuffer(),
    );
    write(
      '9.png',
      await sharp({ create: { width: 7, height: 64, channels: 3, background: '#777' } })
        .png()
        .toBuffer(),
    );
    write('portrait.jpg', jpeg);
    write('2024-05-01.jpg', jpeg);
    write('1e39.jpg', jpeg);
    writeFileSync(join(from, '1.jpg'), jpeg);
    const { data, rejected } = await pack(options(from));
    expect(data.count).toBe(6);
    const name = 'its name does not begin with its alpha, as -2.jpg or 1.5_tuesday.jpg do; or list the pictures in a CSV file';
    expect(Object.fromEntries(rejected.map(({ path, reason }) => [path, reason]))).toEqual({
      '1.jpg': 'it does not lie at SUBJECT/PICTURE or SUBJECT/ATTRIBUTE/PICTURE',
      'bert/1e39.jpg': name,
      'bert/2024-05-01.jpg': name,
      'bert/portrait.jpg': name,
      'bert/3.jpg': 'its pixels are damaged or incomplete',
      'bert/4.png': 'the file is empty',
      'bert/5.jpg': 'it is damaged, or no picture in a format that can be read (jpeg, png, webp, gif, tiff, heif)',
      'bert/6.svg': expect.stringMatching(/^its name does not end like that of a picture/),
      'bert/7.png': 'expected jpeg, png, webp, gif, tiff, heif but found svg',
      'bert/8.jpg': 'expected at most 64 megapixels but found 10000 x 10000',
      'bert/9.png': 'expected at least 8 x 8 pixels but found 7 x 64',
    });
  });

  test('and nothing else, or one of each person, are refused as a whole', async () => {
    const none = temporaryFolder();
    await expect(pack(options(none))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected pictures in ${none} but found none`,
    });
    await expect(pack(options(join(none, 'no')))).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^Cannot read .*ENOENT/),
    });
    const one = temporaryFolder();
    for (const who of ['a', 'b', 'c']) await save(join(one, who, '1'), 10);
    const out = join(temporaryFolder(), 'set');
    await expect(pack(options(one, { out }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected two pictures of one subject and attribute with different alphas in ${one} but found none among 3 of 3 subjects`,
      hint: 'Comparing needs several pictures of a person: give each person two or more, each with the alpha that it shows.',
    });
    await expect(readFile(out)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test.each([
    ['size', { size: 4 }],
    ['quality', { quality: 101 }],
    ['threads', { threads: 65 }],
    ['shardBytes', { shardBytes: 0 }],
    ['attribute', { attribute: '' }],
    ['from', { from: '' }],
    ['out', { out: 3 as unknown as string }],
    ['signal', { signal: 1 as unknown as AbortSignal }],
    ['onProgress', { onProgress: 1 as unknown as () => void }],
  ])('and a wrong `%s` are named', async (name, more) => {
    await expect(pack({ ...options(photos), ...more })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining(`\`${name}\``),
    });
  });
});

describe('a folder that is not as it should be', () => {
  test('is packed but for what cannot be read or is elsewhere, each with its reason', async () => {
    const from = temporaryFolder();
    for (const file of ['007/.5', '007/1', '12/0', '12/1']) await save(join(from, file), 10);
    writeFileSync(join(from, '12', '.DS_Store'), 'left by a system');
    symlinkSync(join(from, '12'), join(from, '13'));
    symlinkSync('loop.png', join(from, '12', 'loop.png'));
    const out = join(from, 'set');
    const { data, rejected } = await pack(options(from, { out }));
    expect([data.count, [...data.subjects]]).toEqual([4, [7, 12]]);
    expect(rejected).toEqual([
      {
        path: '12/loop.png',
        reason: 'its name does not begin with its alpha, as -2.jpg or 1.5_tuesday.jpg do; or list the pictures in a CSV file',
      },
      { path: '13', reason: 'it is a link to a folder, which is not followed' },
    ]);
    // The set lies among the pictures and is none of them; what is no good now is listed now.
    const before = await readFile(join(out, 'set.json'), 'utf8');
    writeFileSync(join(from, '007', 'notes.txt'), 'hello');
    const again = await pack(options(from, { out, onProgress: () => expect.unreachable() }));
    expect(again.rejected.map(({ path }) => path)).toEqual(['007/notes.txt', '12/loop.png', '13']);
    expect(await readFile(join(out, 'set.json'), 'utf8')).toBe(before);
    await save(join(from, '12', '2'), 10);
    await expect(pack(options(from, { out }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected a new or empty folder for \`out\` but ${out} holds a data set of other pictures or options`,
    });
  });

  test('because it is a data set is refused', async () => {
    const from = temporaryFolder();
    await save(join(from, 'a', '1'), 10);
    writeFileSync(join(from, 'manifest.jsonl'), '');
    await expect(pack(options(from))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected pictures in ${from} but found a data set, by its manifest.jsonl`,
    });
  });

  test('because pictures change or vanish meanwhile stops the packing, and costs no picture', async () => {
    const from = temporaryFolder();
    for (let i = 0; i < 200; i++) await save(join(from, 'a', String(i)), i % 256);
    const out = join(temporaryFolder(), 'set');
    const last = join(from, 'a', '199.png');
    const bytes = await readFile(last);
    for (const change of [() => rm(last), () => writeFile(last, 'another')]) {
      const call = pack(options(from, { out, threads: 1, onProgress: ({ done }) => done === 64 && change() }));
      await expect(call).rejects.toMatchObject({
        code: 'IO',
        message: expect.stringMatching(/^Cannot read the picture a\/199\.png: (ENOENT|it had \d+ bytes)/),
      });
      await writeFile(last, bytes);
    }
    expect((await pack(options(from, { out }))).data.count).toBe(200);
  });
});

describe('a packing', () => {
  /** 300 people of four pictures: a shard for each 64. */
  const many = join(shared, 'many');
  const options = { from: many, size: 64, quality: 90, shardBytes: 1 };
  let expected: string;
  beforeAll(async () => {
    const pixels = Buffer.alloc(96 * 96 * 3);
    for (let i = 0; i < 1200; i++) {
      const file = join(many, String(i >> 2), `${i % 4}.png`);
      mkdirSync(dirname(file), { recursive: true });
      createHash('shake256', { outputLength: pixels.length }).update(String(i)).digest().copy(pixels);
      if (i % 100 === 7) writeFileSync(file, 'damaged');
      else
        await sharp(pixels, { raw: { width: 96, height: 96, channels: 3 } })
          .png({ compressionLevel: 0 })
          .toFile(file);
    }
    const { data, rejected } = await pack({ ...options, out: join(shared, 'whole') });
    expect([data.count, rejected.length]).toEqual([1188, 12]);
    expected = await digest(data.folder);
  });

  test('ends in the same bytes with any number of threads, however often it is stopped', async () => {
    const out = join(temporaryFolder(), 'set');
    for (const threads of [1, 3]) {
      const stop = new AbortController();
      const onProgress = () => stop.abort('enough');
      await expect(pack({ ...options, out, threads, signal: stop.signal, onProgress })).rejects.toBe('enough');
      await expect(readData(out)).rejects.toMatchObject({ code: 'IO', message: expect.stringMatching(/it is not finished$/) });
    }
    await pack({ ...options, out });
    expect(await digest(out)).toBe(expected);
  });

  test('is not done again, nor over another set', async () => {
    const out = join(shared, 'whole');
    const { data, rejected } = await pack({ ...options, out, onProgress: () => expect.unreachable() });
    expect([data.count, rejected.length]).toEqual([1188, 12]);
    await expect(pack({ ...options, size: 32, out })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/a data set of other pictures or options$/),
    });
    expect(await digest(out)).toBe(expected);
  });

  test('goes on behind a journal that was torn, and does again what was lost', async () => {
    const out = join(temporaryFolder(), 'set');
    await cp(join(shared, 'whole'), out, { recursive: true });
    for (const lost of ['00001.shard', 'pictures.csv']) {
      await rm(join(out, lost));
      await pack({ ...options, out });
      expect(await digest(out)).toBe(expected);
    }
    const stop = new AbortController();
    const part = join(temporaryFolder(), 'set');
    const onProgress = ({ done }: { done: number }) => done > 600 && stop.abort('enough');
    await expect(pack({ ...options, out: part, signal: stop.signal, onProgress })).rejects.toBe('enough');
    const journal = join(part, 'pack.jsonl');
    await truncate(journal, (await readFile(journal)).length - 5);
    const first: number[] = [];
    await pack({ ...options, out: part, onProgress: ({ done }) => first.push(done) });
    expect([first[0], await digest(part)]).toEqual([576, expected]);
  });

  test('whose journal was written over does it all again', async () => {
    const out = join(temporaryFolder(), 'set');
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => done > 600 && stop.abort('enough');
    await expect(pack({ ...options, out, signal: stop.signal, onProgress })).rejects.toBe('enough');
    const journal = join(out, 'pack.jsonl');
    const [plan] = (await readFile(journal, 'utf8')).split('\n');
    const lines = [
      '{"from":0,"to":64}',
      '{"from":0,"to":1e9,"rejected":[]}',
      '{"from":0,"to":64,"rejected":[[99,"x"]]}',
      'null',
      '[]',
      '7',
    ];
    await writeFile(journal, [plan, ...lines, ''].join('\n'));
    await pack({ ...options, out });
    expect(await digest(out)).toBe(expected);
  });

  test('of other pictures or options in the same folder at the same time is refused, whoever is second', async () => {
    const out = join(temporaryFolder(), 'set');
    const both = await Promise.allSettled([pack({ ...options, out }), pack({ ...options, out, size: 32 })]);
    const refused = both.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    expect(refused).toHaveLength(1);
    expect(refused[0]).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(/other pictures or options/) });
    const data = await readData(out);
    const source = data.open(8, 1);
    const samples = Array.from({ length: data.count }, (_, i) => i);
    expect((await source.fill(planOf(samples, samples), plainAugment)).broken).toEqual([]);
    source.dispose();
  });

  test('two at once are as one', async () => {
    const out = join(temporaryFolder(), 'set');
    await Promise.all([pack({ ...options, out }), pack({ ...options, out })]);
    expect(await digest(out)).toBe(expected);
  });

  test('onto a disk that fills up says so, leaves nothing torn and goes on when there is room', async () => {
    const out = join(temporaryFolder(), 'set');
    const said = await withFileLimit(128, `({ pack }) => pack(${JSON.stringify({ ...options, out })})`);
    expect(said).toMatch(/^IO: Cannot write in .*: EFBIG/);
    await pack({ ...options, out });
    expect(await digest(out)).toBe(expected);
  });
});
