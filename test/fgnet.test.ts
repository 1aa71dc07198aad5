// FG-NET as it lies on disks: names in any case, points in a markup of their own, and every way in which a picture and its points may not fit.
import { readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Point } from '../lib/data/align.ts';
import { pack } from '../lib/data/pack.ts';
import { temporaryFolder } from './support.ts';
import { drawnFace, packOptions as options, photo, points, ptsText, put, xm2vts } from './tasks.ts';

let face: Buffer;
beforeAll(async () => {
  face = await photo(1);
});

const kNames = ['001A02', '001A10a', '001a10B', '002A00', '002A69'];

/** Two subjects; the folder that FGNET lies in. */
function fgnet(): string {
  const root = temporaryFolder();
  for (const name of kNames) {
    put(join(root, 'FGNET', 'images', `${name}.JPG`), face);
    put(join(root, 'FGNET', 'points', `${name.toLowerCase()}.pts`), ptsText(xm2vts(), '\r'));
  }
  put(join(root, 'FGNET', 'points', 'readme.txt'), 'no points');
  put(join(root, 'FGNET', 'Data.mat'), 'another tool');
  return root;
}

const ptsFile = (root: string, name: string) => join(root, 'FGNET', 'points', `${name}.pts`);

describe('FG-NET', () => {
  test.each(['', 'FGNET'])('is recognized, in the folder or in FGNET in it, and packed by subject and age: %j', async (inside) => {
    const { data, format, rejected, notes, picturesFile } = await pack(options(join(fgnet(), inside)));
    expect([format, data.attributes, [...data.subjects], rejected, notes]).toEqual(['fgnet', ['age'], [1, 2], [], []]);
    expect(readFileSync(picturesFile, 'utf8').split('\n').slice(1, -1)).toEqual([
      '0,001,1,age,2,images/001A02.JPG,,',
      '1,001,1,age,10,images/001A10a.JPG,,',
      '2,001,1,age,10,images/001a10B.JPG,,',
      '3,002,2,age,0,images/002A00.JPG,,',
      '4,002,2,age,69,images/002A69.JPG,,',
    ]);
  });

  test('is cut to the square of FFHQ by its own points', async () => {
    const { data } = await pack(options(fgnet(), { size: 96 }));
    const bytes = readFileSync(join(data.folder, '00000.shard'));
    const start = bytes.readUInt32LE(64);
    const drawn = await drawnFace(1);
    const difference = drawn.reduce((sum, value, i) => sum + Math.abs(value - bytes[start + i]!), 0) / drawn.length;
    expect(difference).toBeLessThan(6);
  });

  test('may have closed eyes, a turned head, and points in lower or upper case', async () => {
    const root = fgnet();
    const closed = xm2vts().map(([x, y], i): Point => (i >= 27 && i <= 36 ? [x, Math.round(y)] : [x, y]));
    for (const lid of [28, 30, 33, 35]) closed[lid] = [closed[lid]![0], closed[27]![1]];
    put(ptsFile(root, '001a02'), ptsText(closed));
    const turned = xm2vts().map(([x, y]): Point => [110 + (x - 110) * 0.7 - (y - 70) * 0.7, 70 + (x - 110) * 0.7 + (y - 70) * 0.7]);
    put(ptsFile(root, '001a10a'), ptsText(turned));
    renameSync(ptsFile(root, '002a00'), join(root, 'FGNET', 'points', '002A00.PTS'));
    expect((await pack(options(root))).rejected).toEqual([]);
  });

  /** Points of iBUG: nose 27-35, eyes 36-47. */
  const asIbug = (): Point[] => {
    const [left, right, nose, ...mouth] = points();
    const all = Array.from({ length: 68 }, (): Point => nose!);
    for (let i = 0; i < 4; i++) all[27 + i] = [nose![0], left![1] + ((nose![1] - left![1]) * i) / 3];
    for (let i = 0; i < 5; i++) all[31 + i] = [nose![0] + 4 * (i - 2), nose![1] + 2];
    for (let i = 0; i < 6; i++) {
      all[36 + i] = [left![0] + 5 * Math.cos(i), left![1] + 2 * Math.sin(i)];
      all[42 + i] = [right![0] + 5 * Math.cos(i), right![1] + 2 * Math.sin(i)];
    }
    [all[48], all[54]] = [mouth[0]!, mouth[1]!];
    return all;
  };

  test.each<[string, string, string]>([
    [
      'in the order of iBUG',
      ptsText(asIbug()),
      'its points are not in the order of FG-NET (XM2VTS): point 31, a pupil, lies outside of the eye 27 to 30',
    ],
    [
      'of which one pupil is elsewhere',
      ptsText(xm2vts().map((point, i) => (i === 36 ? [5, 5] : point))),
      'its points are not in the order of FG-NET (XM2VTS): point 36, a pupil, lies outside of the eye 32 to 35',
    ],
    ['upside down', ptsText(xm2vts().map(([x, y]) => [x, 144 - y])), 'its mouth lies above its eyes'],
    ['all zero', ptsText(xm2vts().map(() => [0, 0])), 'its landmarks are all zero'],
    ['less', ptsText(xm2vts().slice(1)), '001a02.pts: expected 68 points but found 67'],
    ['torn', ptsText(xm2vts()).slice(0, 300), '001a02.pts: expected "}" at its end: it is incomplete'],
    ['none', 'text', '001a02.pts: expected "version: 1", "n_points: N" and "{" at its beginning'],
    ['too many bytes', ' '.repeat(70_000), '001a02.pts: expected at most 65536 bytes but the file has 70000'],
  ])('has a picture whose points are %s: it is refused by name', async (_, text, reason) => {
    const root = fgnet();
    put(ptsFile(root, '001a02'), text);
    const { data, rejected } = await pack(options(root));
    expect([data.count, rejected]).toEqual([4, [{ path: 'images/001A02.JPG', reason }]]);
  });

  test('has pictures without points, points without pictures, and names that are none', async () => {
    const root = fgnet();
    const image = (name: string) => join(root, 'FGNET', 'images', name);
    rmSync(ptsFile(root, '001a02'));
    put(ptsFile(root, '001A10A'), ptsText(xm2vts()));
    put(ptsFile(root, '003a05'), ptsText(xm2vts()));
    for (const name of ['002A69.jpg', 'group.jpg', '12A03.JPG', '002A00.txt']) put(image(name), face);
    const { data, rejected } = await pack(options(root));
    expect(data.count).toBe(3);
    expect(rejected).toEqual([
      { path: 'images/001A02.JPG', reason: 'it has no points: there is no .pts file of its name' },
      { path: 'images/001A10a.JPG', reason: 'it has two files of points: 001A10A.pts and 001a10a.pts' },
      { path: 'images/002A00.txt', reason: expect.stringMatching(/^its name does not end like that of a picture/) },
      { path: 'images/002A69.jpg', reason: 'it has the name of 002A69.JPG but for its case or end' },
      { path: 'images/12A03.JPG', reason: 'its name is not subject, A and age, as 001A02.JPG' },
      { path: 'images/group.jpg', reason: 'its name is not subject, A and age, as 001A02.JPG' },
      { path: 'points/003a05.pts', reason: 'there is no picture to these points' },
    ]);
  });

  test('that is asked for and not there is refused', async () => {
    const from = temporaryFolder();
    await expect(pack(options(from, { format: 'fgnet' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected folders images and points, with .pts files in points, in ${from}, as "fgnet" has, but found none`,
    });
  });
});
