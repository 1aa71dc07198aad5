// Lists of dialysis pictures: patients, days, before and after, one weight for many pictures; and what pictures.csv keeps of that.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { pack } from '../lib/data/pack.ts';
import { readPictures } from '../lib/data/pictures.ts';
import { generate } from '../lib/data/procedural.ts';
import { sharedFolder, smallSet } from './faces.ts';
import { temporaryFolder } from './support.ts';
import { packOptions as options, photo, points, put } from './tasks.ts';

const shared = sharedFolder();
beforeAll(async () => {
  const face = await photo(1);
  for (let i = 0; i < 12; i++) put(join(shared, 'pictures', `${i}.jpg`), face);
});

const kHead = 'dataset,patient_id,session_id,phase,capture_time,weight_kg,frame_index,image_path,site';
let lists = 0;

/** A list among the pictures. @param rows Without the time. */
function list(rows: readonly string[], head = kHead): string {
  const file = join(shared, `list-${lists++}.csv`);
  writeFileSync(file, [head, ...rows, ''].join('\n'));
  return file;
}

/** Two patients of one site: two days, before and after. */
const good = [
  'A,7,day 1,pre,2020-01-01T08:00,71.5,0,pictures/0.jpg,north',
  'A,7,day 1,pre,2020-01-01T08:00,71.5,1,pictures/1.jpg,north',
  'A,7,day 1,Post,2020-01-01T12:00,69,0,pictures/2.jpg,north',
  'A,7,day 2,PRE,2020-01-03T08:00,72.1,0,pictures/3.jpg,north',
  'A,12,day 1,pre,,50,0,pictures/4.jpg,north',
  'A,12,day 1,post,,48.25,0,pictures/5.jpg,north',
];
describe('a list of dialysis pictures', () => {
  test('is recognized and packed by patient and weight, each picture with its day and phase', async () => {
    const { data, format, rejected, leftOut, picturesFile } = await pack(options(list(good)));
    expect([format, data.attributes, [...data.subjects], rejected, leftOut]).toEqual(['weight', ['weight'], [7, 12], [], 0]);
    expect(readFileSync(picturesFile, 'utf8')).toBe(
      [
        'picture,subject,number,attribute,alpha,path,session,phase',
        '0,7,7,weight,69,pictures/2.jpg,day 1,post',
        '1,7,7,weight,71.5,pictures/0.jpg,day 1,pre',
        '2,7,7,weight,71.5,pictures/1.jpg,day 1,pre',
        '3,7,7,weight,72.1,pictures/3.jpg,day 2,pre',
        '4,12,12,weight,48.25,pictures/5.jpg,day 1,post',
        '5,12,12,weight,50,pictures/4.jpg,day 1,pre',
        '',
      ].join('\n'),
    );
    expect(await readPictures(data.folder)).toEqual({
      subject: ['7', '7', '7', '7', '12', '12'],
      session: ['day 1', 'day 1', 'day 1', 'day 2', 'day 1', 'day 1'],
      phase: ['post', 'pre', 'pre', 'pre', 'post', 'pre'],
      path: [2, 0, 1, 3, 5, 4].map((i) => `pictures/${i}.jpg`),
    });
  });

  test('needs the columns that it is made of, and no other; landmarks align', async () => {
    const names = points().flatMap((_, i) => [`x${i + 1}`, `y${i + 1}`]);
    const [head, tail] = [`patient_id,session_id,phase,weight_kg,image_path,${names}`, points().flat().join(',')];
    const from = list([`7,1,pre,70,pictures/0.jpg,${tail}`, `7,1,post,68,pictures/1.jpg,${tail}`, '7,2,pre,68,pictures/2.jpg,1,2'], head);
    const { data, rejected } = await pack(options(from));
    expect([data.count, rejected]).toEqual([2, [{ path: 'pictures/2.jpg', reason: 'line 4: landmark 2 is not two numbers' }]]);
    const other = pack(options(list(['7,70,pictures/0.jpg'], 'patient_id,weight_kg,image_path')));
    await expect(other).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringMatching(/:1: expected a column `session_id` but/),
    });
    await expect(pack(options(list(['a,b,1'], 'path,subject,alpha'), { format: 'weight' }))).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringMatching(/:1: expected a column `patient_id` but found "path,subject,alpha"$/),
    });
  });

  test('has a data point with two weights, which is refused as a whole with both', async () => {
    const rows = [...good, 'A,12,day 1,pre,,50.5,1,pictures/6.jpg,north', 'A,12,day 2,pre,,51,1,pictures/7.jpg,north'];
    const { data, rejected, notes } = await pack(options(list(rows)));
    const fault = 'patient "12", session "day 1", pre has two weights, 50 and 50.5 kg';
    expect(data.count).toBe(6);
    expect(rejected).toEqual([
      { path: 'pictures/4.jpg', reason: `line 6: ${fault}` },
      { path: 'pictures/6.jpg', reason: `line 8: ${fault}` },
    ]);
    expect(notes).toEqual([`Not packed: ${fault}.`]);
  });

  test('names each line that cannot be used', async () => {
    const bad: [string, string][] = [
      ['A,,d,pre,,70,0,pictures/8.jpg,north', 'it has no patient_id'],
      ['A,7,,pre,,70,0,pictures/8.jpg,north', 'it has no session_id'],
      ['A,7,d,during,,70,0,pictures/8.jpg,north', 'expected pre or post for phase but found "during"'],
      ['A,7,d,pre,,,0,pictures/8.jpg,north', 'expected 1 to 500 kg for weight_kg but found ""'],
      ['A,7,d,pre,,70 kg,0,pictures/8.jpg,north', 'expected 1 to 500 kg for weight_kg but found "70 kg"'],
      ['A,7,d,pre,,70500,0,pictures/8.jpg,north', 'expected 1 to 500 kg for weight_kg but found "70500"'],
      ['A,7,d,pre,,0,0,pictures/8.jpg,north', 'expected 1 to 500 kg for weight_kg but found "0"'],
      ['A,7,d,pre,,70,0,,north', 'it has no path'],
      ['A,7,d,pre,,70,0,pictures/8.jpg,north,1', 'it has 10 cells in 9 columns; quote what holds a comma'],
      [`A,7,${'d'.repeat(201)},pre,,70,0,pictures/8.jpg,north`, 'a name of more than 200 letters'],
    ];
    const whole: [string, string][] = [
      ['A,7,day 1,pre,,71.5,0,pictures/0.jpg,north', 'it is listed twice for "weight"'],
      ['A,12,day 1,pre,,50,0,pictures/0.jpg,north', 'it is listed as of "7" and of "12"'],
      ['A,7,d,pre,,70,0,pictures/99.jpg,north', 'there is no such file'],
    ];
    const { data, rejected } = await pack(
      options(list([...good, ...bad, ...whole].map((row) => (typeof row === 'string' ? row : row[0])))),
    );
    expect(data.count).toBe(6);
    expect(rejected.map(({ reason }) => reason)).toEqual([
      ...bad.map(([, reason], i) => `line ${8 + i}: ${reason}`),
      ...whole.map(([, reason]) => reason),
    ]);
  });

  test('of several hospitals or data sets needs the one to pack: their patients may have the same numbers', async () => {
    const from = list([...good, 'A,7,day 1,pre,,90,0,pictures/8.jpg,south', 'A,7,day 1,post,,88,0,pictures/9.jpg,south']);
    await expect(pack(options(from))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected one of "north", "south", which ${from} has for \`site\` but received undefined`,
      hint: 'Choose one: patients of two may have the same numbers.',
    });
    await expect(pack(options(from, { site: 'east' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected one of "north", "south" in ${from} for \`site\` but received "east"`,
    });
    const south = await pack(options(from, { site: 'south' }));
    expect([south.data.count, south.leftOut, south.notes]).toEqual([2, 6, ['Left out, as of another site: 6.']]);
    const sets = list([...good, 'B,7,day 1,pre,,90,0,pictures/8.jpg,north', 'B,7,day 1,post,,88,0,pictures/9.jpg,north']);
    await expect(pack(options(sets, { site: 'north' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/^Expected one of "A", "B", which .* has for `dataset` but received undefined$/),
    });
    expect((await pack(options(sets, { site: 'north', dataset: 'A' }))).data.count).toBe(6);
    const apart = list([...good, 'B,7,day 1,pre,,90,0,pictures/8.jpg,south', 'B,7,day 1,post,,88,0,pictures/9.jpg,south']);
    expect((await pack({ ...options(apart, { site: 'north' }), out: `${options(apart).out}-north` })).data.count).toBe(6); // one choice says both
    for (const more of [{ site: 3 as unknown as string }, { dataset: '' }, { frames: 'x\0' }, { onListing: 1 as never }])
      await expect(pack(options(from, more))).rejects.toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining(`\`${Object.keys(more)[0]}\``),
      });
    await expect(pack(options(from, { site: 'north', frames: 'x' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected none where `format` is weight for `frames` but received "x"',
    });
  });

  test('that gets another day or phase is another set', async () => {
    const file = list(good);
    const set = options(file);
    await pack(set);
    expect((await pack({ ...set, onProgress: () => expect.unreachable() })).data.count).toBe(6);
    writeFileSync(file, readFileSync(file, 'utf8').replace('7,day 2', '7,day 3'));
    await expect(pack(set)).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(/other pictures or options$/) });
  });
});

describe('a list of pictures by label', () => {
  test('may say the session, and names what is missing, no number, or there twice', async () => {
    const rows = [
      'pictures/0.jpg,a,1.5,monday',
      'pictures/1.jpg,a,2,',
      'pictures/2.jpg,a,,',
      'pictures/3.jpg,a,heavy,',
      'pictures/0.jpg,a,1.5,',
      'pictures/4.jpg,,3,',
    ];
    const { data, format, rejected } = await pack(options(list(rows, 'path,subject,label,session')));
    expect(format).toBe('table');
    expect(rejected.map(({ reason }) => reason)).toEqual([
      'line 4: expected a number for label but found ""',
      'line 5: expected a number for label but found "heavy"',
      'it is listed twice for "change"',
      'line 7: it has no subject',
    ]);
    expect(await readPictures(data.folder)).toEqual({
      subject: ['a', 'a'],
      session: ['monday', ''],
      phase: ['', ''],
      path: ['pictures/0.jpg', 'pictures/1.jpg'],
    });
  });
});

describe('pictures.csv', () => {
  test.each<[string, (text: string) => string, RegExp]>([
    ['with a line less', (text) => text.split('\n').slice(0, -2).join('\n'), /: expected 6 pictures, as the set has, but found 5$/],
    ['with a line more', (text) => `${text}6,12,12,weight,50,x,,\n`, /: expected 6 pictures, as the set has, but found more$/],
    ['in another order', (text) => text.replace('\n1,', '\n2,'), /: line 3: expected picture 1 but found 2$/],
    ['of another attribute', (text) => text.replace('weight', 'age'), /: line 2: expected weight, as the set has, but found age$/],
    ['without a column', (text) => text.replace(',session', ',day'), /:1: expected a column `session` but found/],
    ['that is empty', () => '', /:1: expected the names of the columns but the file is empty$/],
  ])('%s is refused', async (_, change, message) => {
    const { data, picturesFile } = await pack(options(list(good)));
    writeFileSync(picturesFile, change(readFileSync(picturesFile, 'utf8')));
    await expect(readPictures(data.folder)).rejects.toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringMatching(message) });
  });

  test('keeps names as they are: with commas, quotes, blanks and line ends', async () => {
    const quoted = ['"pictures/0.jpg"," a, ""b"" ",1," x\ny "', 'pictures/1.jpg," a, ""b"" ",2,z'];
    const { data } = await pack(options(list(quoted, 'path,subject,alpha,session')));
    const { subject, session } = await readPictures(data.folder);
    expect([subject, session]).toEqual([
      [' a, "b" ', ' a, "b" '],
      [' x\ny ', 'z'],
    ]);
  });

  test('is only in sets that pack made', async () => {
    const out = join(temporaryFolder(), 'set');
    await generate({ ...smallSet, subjects: 2, format: 'shards', out });
    await expect(readPictures(out)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/pictures\.csv: there is no such file$/),
    });
    await expect(readPictures('')).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining('`folder`') });
  });
});
