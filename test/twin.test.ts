// Twins of the data sets that the paper evaluates on: the real sets' counts and formats to the byte, labels that show in the faces, people that no
// training set has, and a folder that is never mixed up.
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type TwinOptions, twin } from '../lib/data/twin.ts';
import { disfaTwin, disfaVideo, kDisfaFrames, kDisfaSubjects } from '../lib/data/twins/disfa.ts';
import { fgnetPictures, fgnetTwin } from '../lib/data/twins/fgnet.ts';
import { shotsOf, type TwinPicture, twinFirstSubject } from '../lib/data/twins/parts.ts';
import { weightPoints, weightTwin } from '../lib/data/twins/weight.ts';
import { native } from '../lib/native.ts';
import { sharedFolder } from './faces.ts';
import { distance, temporaryFolder } from './support.ts';

const shared = sharedFolder();
const kPlain = 2 ** 32 - 1;
const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;

function correlation(x: readonly number[], y: readonly number[]): number {
  const [mx, my] = [mean(x), mean(y)];
  const sum = (f: (i: number) => number) => x.reduce((all, _, i) => all + f(i), 0);
  return sum((i) => (x[i]! - mx) * (y[i]! - my)) / Math.sqrt(sum((i) => (x[i]! - mx) ** 2) * sum((i) => (y[i]! - my) ** 2));
}

function groupBy<T>(list: readonly T[], key: (item: T) => number): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const item of list) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}

/** Every file of a folder, from it, sorted. */
const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();

function digest(folder: string): string {
  const hash = createHash('sha256');
  for (const file of filesOf(folder)) hash.update(file).update(readFileSync(join(folder, file)));
  return hash.digest('hex');
}

const small = {
  disfa: { kind: 'disfa', subjects: 2, frames: 5, size: 32 },
  fgnet: { kind: 'fgnet', subjects: 2, size: 40 },
  weight: { kind: 'weight', subjects: 2, frames: 2, size: 32 },
} as const satisfies Record<string, Omit<TwinOptions, 'out'>>;

async function made(kind: keyof typeof small): Promise<string> {
  const out = join(shared, kind);
  await twin({ ...small[kind], out });
  return out;
}

const decode = (file: string) => native().module.decodeJpeg(readFileSync(file));

describe('counts are those of the real sets:', () => {
  test('disfa has 27 videos of 4845 frames', () => {
    const { pictures, subjects, folders } = disfaTwin(1n, kDisfaSubjects, kDisfaFrames, false);
    expect([subjects, pictures]).toEqual([27, 27 * 4845]);
    const numbers = folders.filter((name) => name.startsWith('ActionUnit_Labels/')).map((name) => Number(name.slice(-3)));
    expect(numbers).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32]);
  });

  test.each([1n, 2n])(
    'fgnet has 1002 pictures of 82 people, 444 under 12, 175 gray, 0 to 69 years, at least 6 of each, with seed %s',
    (seed) => {
      const pictures = fgnetPictures(seed);
      const count = (is: (picture: (typeof pictures)[number]) => boolean) => pictures.filter(is).length;
      expect([pictures.length, fgnetTwin(seed, 82).pictures]).toEqual([1002, 1002]);
      expect([count(({ age }) => age < 12), count(({ isGray }) => isGray)]).toEqual([444, 175]);
      const ages = pictures.map(({ age }) => age);
      expect([Math.min(...ages), Math.max(...ages)]).toEqual([0, 69]);
      const people = groupBy(pictures, ({ person }) => person);
      expect([...people.keys()]).toEqual(Array.from({ length: 82 }, (_, i) => i + 1));
      for (const [, own] of people) {
        expect(own.length).toBeGreaterThanOrEqual(6);
        expect(own.length).toBeLessThanOrEqual(18);
        expect(new Set(own.map(({ age, letter }) => `${age}${letter}`)).size).toBe(own.length);
      }
      expect(new Set(pictures.map(({ domain }) => domain))).toEqual(new Set([0, 1]));
    },
  );

  test('weight has 392 data points of 38 patients and 320 of 19 others, before and after each dialysis', () => {
    const points = weightPoints(1n);
    expect(weightTwin(1n, 57, 100).pictures).toBe(39_200 + 32_000);
    for (const [name, count, people, domain] of [
      ['Edema-A', 392, 38, 0],
      ['Edema-B', 320, 19, 1],
    ] as const) {
      const own = points.filter(({ dataset }) => dataset === name);
      expect([own.length, new Set(own.map(({ patient }) => patient)).size]).toEqual([count, people]);
      expect(new Set(own.map((point) => point.domain))).toEqual(new Set([domain]));
      expect(own.filter(({ phase }) => phase === 'pre')).toHaveLength(count / 2);
      expect(new Set(own.map(({ session, phase }) => `${session} ${phase}`)).size).toBe(count);
    }
    const excess = points.map(({ phase, kilograms, dryKilograms }) => [phase, kilograms - dryKilograms] as const);
    const before = excess.filter(([phase]) => phase === 'pre').map(([, kg]) => kg);
    expect([Math.min(...before) > 0.9, Math.max(...before) < 4.1]).toEqual([true, true]);
    expect(before.filter((kg) => kg >= 2 && kg <= 3).length / before.length).toBeGreaterThan(0.5);
    expect(Math.max(...excess.filter(([phase]) => phase === 'post').map(([, kg]) => Math.abs(kg)))).toBeLessThan(0.7);
    const dry = [...groupBy(points, ({ subject }) => subject).values()].map((own) => mean(own.map(({ dryKilograms }) => dryKilograms)));
    expect(Math.max(...dry) - Math.min(...dry)).toBeGreaterThan(30);
  });
});

test('expressions come and go smoothly, and AU6 and AU12 are alike but not the same', () => {
  const videos = Array.from({ length: 27 }, (_, index) => disfaVideo(1n, index, kDisfaFrames));
  for (const { au6, au12 } of videos) {
    for (const track of [au6, au12]) {
      expect(track).toHaveLength(4845);
      expect(track.every((v) => [0, 1, 2, 3, 4, 5].includes(v))).toBe(true);
      expect(Math.max(...track.slice(1).map((v, i) => Math.abs(v - track[i]!)))).toBeLessThanOrEqual(2);
      const shown = track.filter((v) => v > 0).length / track.length;
      expect([shown > 0.08, shown < 0.8]).toEqual([true, true]);
      expect(track.filter((v, i) => v > 0 && (track[i - 1] ?? 0) === 0).length).toBeGreaterThan(5); // episodes
    }
  }
  const all = (key: 'au6' | 'au12') => videos.flatMap((video) => video[key]);
  for (const key of ['au6', 'au12'] as const) expect(new Set(all(key)).size).toBe(6);
  expect(correlation(all('au6'), all('au12'))).toBeGreaterThan(0.4);
  expect(correlation(all('au6'), all('au12'))).toBeLessThan(0.9);
  // Fewer frames are of the same minutes.
  expect(disfaVideo(1n, 3, 969).au12).toEqual(videos[3]!.au12.filter((_, i) => i % 5 === 0));
});

test('people are none that generate draws or the demo tests on, and none of another twin', () => {
  const identities = [
    Array.from({ length: 27 }, (_, i) => disfaVideo(1n, i, 1).pictures[0]!.subject),
    [...new Set(fgnetPictures(1n).map(({ picture }) => picture.subject))],
    [...new Set(weightPoints(1n).map(({ subject }) => subject))],
  ];
  expect(identities.map((list) => list.length)).toEqual([27, 82, 57]);
  expect(new Set(identities.flat()).size).toBe(27 + 82 + 57);
  expect(Object.values(twinFirstSubject).sort()).toEqual(identities.map((list) => Math.min(...list)));
  expect(Math.min(...identities.flat())).toBeGreaterThan(1_000_000 + 2 ** 24);
  expect(Math.max(...identities.flat())).toBeLessThan(2 ** 32);
});

describe('what a label says shows in the face: pictures differ more, the more labels do, in', () => {
  /** Mean change of a face without another pose or light, by the difference of labels: as many values as there are edges. */
  async function changeBy(groups: (readonly [label: number, TwinPicture])[][], edges: readonly number[]): Promise<number[]> {
    const size = 64;
    const sums = edges.map(() => [0, 0]);
    for (const group of groups) {
      const shots = shotsOf(
        { out: '', seed: 1n, size, threads: 1 },
        group.map(([, picture]) => ({ ...picture, photo: kPlain, frame: -1 })),
        0,
      );
      const pixels = await native().module.drawFaces(shots, 2);
      const face = (i: number) => pixels.subarray(i * 3 * size * size, (i + 1) * 3 * size * size);
      for (const [i, [x]] of group.entries()) {
        for (const [k, [y]] of group.entries()) {
          const place = edges.findLastIndex((edge) => Math.abs(y - x) >= edge);
          if (place < 0 || k <= i) continue;
          sums[place]![0]! += distance(face(i), face(k));
          sums[place]![1]!++;
        }
      }
    }
    return sums.map(([sum, count]) => sum! / count!);
  }
  const grows = (values: readonly number[]) => values.every((v, i) => i === 0 || v > 1.08 * values[i - 1]!);

  test.each(['au12', 'au6'] as const)('disfa, for %s', async (key) => {
    const groups = Array.from({ length: 10 }, (_, index) => {
      const video = disfaVideo(1n, index, 500);
      const other = key === 'au12' ? video.au6 : video.au12;
      return [0, 1, 2, 3, 4, 5].flatMap((label) => {
        // Of the other one as little as there is.
        const frames = video[key].flatMap((v, i) => (v === label ? [i] : [])).sort((a, b) => other[a]! - other[b]!);
        return frames.slice(0, 1).map((i) => [label, video.pictures[i]!] as const);
      });
    });
    const change = await changeBy(groups, [1, 2, 3, 4]);
    expect(grows(change), change.join(' ')).toBe(true);
  });

  test('fgnet', async () => {
    const people = groupBy(fgnetPictures(1n), ({ person }) => person);
    const groups = [...people.values()].slice(0, 40).map((own) => own.map(({ age, picture }) => [age, picture] as const));
    const change = await changeBy(groups, [1, 8, 16, 30, 45]);
    expect(grows(change), change.join(' ')).toBe(true);
  });

  test('weight', async () => {
    const patients = groupBy(weightPoints(1n), ({ subject }) => subject);
    const groups = [...patients.values()].slice(20).map((own) => {
      return own.slice(0, 8).map(({ kilograms, changes, subject }) => [kilograms, { subject, photo: 0, frame: -1, changes }] as const);
    });
    const change = await changeBy(groups, [0, 0.7, 1.5, 2.5]);
    expect(grows(change), change.join(' ')).toBe(true);
  });
});

/** A matrix of doubles in a MATLAB file of version 5, read by the format's own words. */
function readMatrix(file: Buffer): { name: string; dims: number[]; values: number[] } {
  expect(file.subarray(0, 10).toString('latin1')).toBe('MATLAB 5.0');
  expect([file.readUInt16LE(124), file.subarray(126, 128).toString('latin1')]).toEqual([0x0100, 'IM']);
  let at = 128;
  const element = (): { type: number; data: Buffer } => {
    const word = file.readUInt32LE(at);
    const isSmall = word >>> 16 > 0;
    const [type, bytes, from] = isSmall ? [word & 0xffff, word >>> 16, at + 4] : [word, file.readUInt32LE(at + 4), at + 8];
    at = isSmall ? at + 8 : from + 8 * Math.ceil(bytes / 8);
    return { type, data: file.subarray(from, from + bytes) };
  };
  expect([file.readUInt32LE(128), file.readUInt32LE(132)]).toEqual([14, file.length - 136]); // miMATRIX, and nothing after it
  at = 136;
  const [flags, dims, name, real] = [element(), element(), element(), element()];
  expect([flags.type, flags.data.readUInt32LE(0), dims.type, name.type, real.type]).toEqual([6, 6, 5, 1, 9]);
  expect(at).toBe(file.length);
  return {
    name: name.data.toString('latin1'),
    dims: [dims.data.readInt32LE(0), dims.data.readInt32LE(4)],
    values: Array.from({ length: real.data.length / 8 }, (_, i) => real.data.readDoubleLE(8 * i)),
  };
}

describe('on the disk', () => {
  test('disfa has labels, frames from 1 and landmarks from 0 as the real set has', async () => {
    const out = await made('disfa');
    const units = [1, 12, 15, 17, 2, 20, 25, 26, 4, 5, 6, 9];
    const wanted = ['SN001', 'SN002'].flatMap((name) => [
      ...units.map((unit) => `ActionUnit_Labels/${name}/${name}_au${unit}.txt`),
      ...[1, 2, 3, 4, 5].map((i) => `Frames_LeftCamera/${name}/0000${i}.jpg`),
      ...[0, 1, 2, 3, 4].map((i) => `Landmark_Points/${name}/tmp_frame_lm/${name}_000${i}_lm.mat`),
    ]);
    expect(filesOf(out)).toEqual([...wanted, 'README.txt', 'twin.json'].sort());
    const video = disfaVideo(1n, 0, 5);
    const label = (unit: number) => readFileSync(join(out, `ActionUnit_Labels/SN001/SN001_au${unit}.txt`), 'latin1');
    const lines = (track: readonly number[]) => track.map((v, i) => `${i + 1},${v}\n`).join('');
    expect([label(6), label(12), label(25)]).toEqual([lines(video.au6), lines(video.au12), lines([0, 0, 0, 0, 0])]);
    expect(await decode(join(out, 'Frames_LeftCamera/SN002/00005.jpg'))).toMatchObject({ width: 32, height: 32 });
    const { name, dims, values } = readMatrix(readFileSync(join(out, 'Landmark_Points/SN001/tmp_frame_lm/SN001_0003_lm.mat')));
    expect([name, dims, values.length]).toEqual(['pts', [66, 2], 132]);
    const shots = shotsOf({ out, seed: 1n, size: 32, threads: 1 }, [video.pictures[3]!], 0);
    const points = await native().module.faceLandmarks(shots);
    const kept = Array.from({ length: 68 }, (_, i) => i).filter((i) => i !== 60 && i !== 64);
    expect(values).toEqual([...kept.map((i) => points[2 * i]), ...kept.map((i) => points[2 * i + 1])]);
  });

  test('fgnet has pictures of many sizes, gray ones with one channel, and points in the order of XM2VTS', async () => {
    const out = await made('fgnet');
    const pictures = fgnetPictures(1n).filter(({ person }) => person <= 2);
    const stem = ({ person, age, letter }: (typeof pictures)[number], a: string) =>
      `00${person}${a}${String(age).padStart(2, '0')}${letter}`;
    expect(filesOf(join(out, 'FGNET'))).toEqual(
      [
        ...pictures.map((picture) => `images/${stem(picture, 'A')}.JPG`),
        ...pictures.map((picture) => `points/${stem(picture, 'a')}.pts`),
      ].sort(),
    );
    const sizes = new Set<number>();
    for (const picture of pictures) {
      const file = readFileSync(join(out, 'FGNET/images', `${stem(picture, 'A')}.JPG`));
      const frame = file.indexOf(Buffer.of(0xff, 0xc0)); // SOF0: length, precision, height, width, channels
      const [height, width, channels] = [file.readUInt16BE(frame + 5), file.readUInt16BE(frame + 7), file[frame + 9]];
      expect([channels, width <= height]).toEqual([picture.isGray ? 1 : 3, true]);
      sizes.add(width).add(height);
      const text = readFileSync(join(out, 'FGNET/points', `${stem(picture, 'a')}.pts`), 'latin1');
      expect(text).toMatch(/^version: 1\nn_points: 68\n\{\n(?:-?\d+\.\d{3} -?\d+\.\d{3}\n){68}\}\n$/);
      const points = text
        .split('\n')
        .slice(3, 71)
        .map((line) => line.split(' ').map(Number) as [number, number]);
      const [x, y] = [(i: number) => points[i]![0], (i: number) => points[i]![1]];
      // Pupils within their eyes, corners from left to right, chin below the mouth below the tip of the nose below the eyes below the brows.
      for (const [outer, top, inner, bottom, pupil] of [
        [27, 28, 29, 30, 31],
        [32, 33, 34, 35, 36],
      ] as const) {
        expect([y(top) < y(pupil), y(pupil) < y(bottom), (x(outer) - x(pupil)) * (x(inner) - x(pupil)) < 0]).toEqual([true, true, true]);
      }
      for (const row of [
        [0, 14],
        [21, 24, 18, 15],
        [27, 31, 29, 34, 36, 32],
        [37, 45],
        [39, 41, 43],
        [46, 47],
        [48, 51, 54],
        [60, 61, 62],
        [65, 64, 63],
      ])
        for (let i = 1; i < row.length; i++) expect(x(row[i]!)).toBeGreaterThan(x(row[i - 1]!));
      for (const column of [
        [22, 28, 67, 51, 57, 7],
        [16, 33, 41],
        [64, 61],
      ])
        for (let i = 1; i < column.length; i++) expect(y(column[i]!)).toBeGreaterThanOrEqual(y(column[i - 1]!));
      expect(Math.min(...[31, 36, 67, 48, 54].map(x))).toBeGreaterThan(0);
      expect(Math.max(...[31, 36, 67, 48, 54].map(x))).toBeLessThan(width);
    }
    expect(sizes.size).toBeGreaterThan(8);
  });

  test('weight has one table, with a line for each frame', async () => {
    const out = await made('weight');
    const [head, ...lines] = readFileSync(join(out, 'weight.csv'), 'latin1').trimEnd().split('\n');
    const names = head!.split(',');
    expect(names.slice(0, 9).join()).toBe('dataset,patient_id,session_id,phase,capture_time,weight_kg,frame_index,image_path,site');
    expect(names.slice(9)).toEqual(Array.from({ length: 136 }, (_, i) => `${i % 2 === 0 ? 'x' : 'y'}${Math.floor(i / 2) + 1}`));
    const points = weightPoints(1n).filter(({ patient }) => patient === 'A01' || patient === 'B01');
    expect(lines).toHaveLength(2 * points.length);
    for (const [i, line] of lines.entries()) {
      const point = points[Math.floor(i / 2)]!;
      const [dataset, patient, session, phase, time, kilograms, frame, path, site, ...landmarks] = line.split(',');
      expect([dataset, patient, session, phase, time, kilograms, frame, site]).toEqual([
        ...[point.dataset, point.patient, point.session, point.phase, point.time, point.kilograms.toFixed(1), String(i % 2), point.site],
      ]);
      expect(time).toMatch(/^2021-\d\d-\d\dT\d\d:\d\d:00$/);
      expect(landmarks).toHaveLength(136);
      expect(landmarks.every((text) => /^-?\d+\.\d\d$/.test(text))).toBe(true);
      expect(existsSync(join(out, path!))).toBe(true);
    }
    expect(await decode(join(out, lines.at(-1)!.split(',')[7]!))).toMatchObject({ width: 32, height: 32 });
  });

  test('README.txt says that it is none of the real sets, and how it was made', async () => {
    for (const kind of ['disfa', 'fgnet', 'weight'] as const) {
      const text = readFileSync(join(await made(kind), 'README.txt'), 'utf8');
      expect(text).toMatch(/synthetic stand-in/);
      expect(text).toMatch(/not the real data set/);
      expect(text).toContain(`comface twin ${kind} --out DIR --seed 1 --size`);
    }
  });

  test.each(Object.keys(small) as (keyof typeof small)[])(
    '%s has the same bytes from any number of threads, and others for another seed',
    async (kind) => {
      const expected = digest(await made(kind));
      const [again, other] = [join(temporaryFolder(), 'a'), join(temporaryFolder(), 'b')];
      await twin({ ...small[kind], threads: 3, out: again });
      expect(digest(again)).toBe(expected);
      await twin({ ...small[kind], seed: 2, out: other });
      expect(digest(other)).not.toBe(expected);
    },
  );
});

describe('a folder', () => {
  test('that holds the twin is taken as it is; with other options, or with anything else, it is refused and left alone', async () => {
    const out = await made('disfa');
    const before = digest(out);
    let chunks = 0;
    const again = await twin({ ...small.disfa, out, threads: 2, onProgress: () => chunks++ });
    expect([again, chunks]).toEqual([{ kind: 'disfa', folder: out, pictures: 10, subjects: 2 }, 0]);
    for (const options of [{ ...small.disfa, seed: 2 }, { ...small.disfa, frames: 6 }, { ...small.disfa, subjects: 1 }, small.weight]) {
      await expect(twin({ ...options, out })).rejects.toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining('a data set of other pictures or options'),
      });
    }
    const photos = join(temporaryFolder(), 'photos');
    mkdirSync(photos);
    writeFileSync(join(photos, 'mine.txt'), '');
    await expect(twin({ ...small.disfa, out: photos })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      hint: expect.stringContaining('new or empty'),
    });
    expect([digest(out), filesOf(photos)]).toEqual([before, ['mine.txt']]);
  });

  test.each(Object.keys(small) as (keyof typeof small)[])(
    'of %s that was not finished has no twin.json, and ends in the same bytes',
    async (kind) => {
      const out = join(temporaryFolder(), 'a');
      const controller = new AbortController();
      const stopped = twin({ ...small[kind], out, signal: controller.signal, onProgress: () => controller.abort('enough') });
      await expect(stopped).rejects.toBe('enough');
      expect(existsSync(join(out, 'twin.json'))).toBe(false);
      const told: [number, number][] = [];
      let sizes = 0;
      await twin({
        ...small[kind],
        out,
        onDisk: ({ neededBytes }) => (sizes = neededBytes),
        onProgress: ({ done, total }) => told.push([done, total]),
      });
      expect(digest(out)).toBe(digest(await made(kind)));
      const { pictures } = await twin({ ...small[kind], out });
      expect(told.at(-1)).toEqual([pictures, pictures]);
      expect(sizes).toBeGreaterThan(pictures * 4096);
    },
  );
});

describe('videos', () => {
  const { PATH } = process.env;
  afterEach(() => {
    process.env.PATH = PATH;
  });

  /** A program `ffmpeg`, first on the PATH. */
  function standIn(script: string): string {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'ffmpeg'), `#!/bin/sh\nif [ "$1" = -version ]; then exit 0; fi\n${script}\n`);
    chmodSync(join(folder, 'ffmpeg'), 0o755);
    process.env.PATH = `${folder}${delimiter}${PATH}`;
    return folder;
  }

  test('go through ffmpeg frame by frame, under the names of the real set', async () => {
    const folder = standIn('echo "$@" > "$(dirname "$0")/words"; for last; do :; done; cat > "$(echo "$last" | cut -c6-)"');
    const out = join(temporaryFolder(), 'a');
    await twin({ ...small.disfa, video: true, out });
    expect(filesOf(join(out, 'Videos_LeftCamera'))).toEqual(['LeftVideoSN001_comp.avi', 'LeftVideoSN002_comp.avi']);
    expect(existsSync(join(out, 'Frames_LeftCamera'))).toBe(false);
    const frames = readFileSync(join(out, 'Videos_LeftCamera/LeftVideoSN001_comp.avi'));
    const shots = shotsOf({ out, seed: 1n, size: 32, threads: 1 }, disfaVideo(1n, 0, 5).pictures, 0);
    expect(frames.equals(await native().module.drawFaces(shots, 1))).toBe(true);
    expect(readFileSync(join(folder, 'words'), 'utf8')).toMatch(/-s 32x32 -r 20 .* -f avi file:/);
    expect(readFileSync(join(out, 'README.txt'), 'utf8')).toContain('--video');
  });

  test('say what to do where there is no ffmpeg, and what it said where it fails', async () => {
    process.env.PATH = temporaryFolder();
    const out = join(temporaryFolder(), 'a');
    await expect(twin({ ...small.disfa, video: true, out })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('`ffmpeg` on the PATH'),
      hint: expect.stringContaining('apt-get install ffmpeg'),
    });
    expect(existsSync(out)).toBe(false);
    standIn('echo no such codec >&2; exit 1');
    await expect(twin({ ...small.disfa, video: true, out })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('no such codec'),
    });
    expect(existsSync(join(out, 'twin.json'))).toBe(false);
  });
});

test.each([
  [{ kind: 'disfas' }, 'one of disfa, fgnet, weight for `kind`'],
  [{ out: '' }, 'a text that is not empty for `out`'],
  [{ seed: -1 }, 'for `seed`'],
  [{ size: 31 }, 'an integer from 32 to 512 for `size`'],
  [{ subjects: 28 }, 'an integer from 1 to 27 for `subjects`'],
  [{ kind: 'fgnet', subjects: 83 }, 'an integer from 1 to 82 for `subjects`'],
  [{ kind: 'weight', subjects: 1 }, 'an integer from 2 to 57 for `subjects`'],
  [{ frames: 4846 }, 'an integer from 1 to 4845 for `frames`'],
  [{ kind: 'weight', frames: 0 }, 'an integer from 1 to 1000 for `frames`'],
  [{ kind: 'fgnet', frames: 5 }, 'nothing for fgnet, which has photographs and no videos for `frames`'],
  [{ video: 'yes' }, 'true or false for `video`'],
  [{ kind: 'weight', video: true }, 'false for weight, which has no videos for `video`'],
  [{ threads: 65 }, 'an integer from 0 to 64 for `threads`'],
  [{ signal: {} }, 'an AbortSignal for `signal`'],
  [{ onProgress: 1 }, 'a function for `onProgress`'],
])('%o is refused before anything is made', async (change, text) => {
  const folder = temporaryFolder();
  const call = twin({ kind: 'disfa', out: join(folder, 'a'), ...change } as TwinOptions);
  await expect(call).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining(text), hint: expect.any(String) });
  expect(readdirSync(folder)).toEqual([]);
});
