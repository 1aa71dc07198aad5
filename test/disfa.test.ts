// DISFA as it lies on disks: frames or videos, labels and landmarks, each numbered in a way of its own. What fits is packed; what does not is named.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseLabels } from '../lib/data/disfa.ts';
import type { ListingEvent } from '../lib/data/listing.ts';
import { pack } from '../lib/data/pack.ts';
import type { ComFaceError } from '../lib/errors.ts';
import { temporaryFolder } from './support.ts';
import { drawnFace, ibug, landmarkFile, type MatStyle, packOptions as options, photo, points, put } from './tasks.ts';

const photos = new Map<string, Buffer>();
beforeAll(async () => {
  for (const subject of [1, 2]) photos.set(`SN00${subject}`, await photo(subject));
});

const frameName = (frame: number): string => `${String(frame).padStart(5, '0')}.jpg`;
const labelText = (intensities: readonly number[], end = '\n'): string => intensities.map((each, i) => `${i + 1},${each}`).join(end) + end;
/** Of 12 frames. */
const kAu6 = [0, 0, 1, 2, 0, 0, 0, 0, 3, 0, 0, 0];
const kAu12 = [0, 0, 1, 3, 5, 4, 0, 0, 0, 0, 0, 2];

/** Two subjects of 12 frames, landmarks named as in the one and the other release. */
function disfa(style: MatStyle = {}, hasFrames = true): string {
  const root = join(temporaryFolder(), 'DISFA');
  for (const [name, bytes] of photos) {
    put(join(root, 'ActionUnit_Labels', name, `${name}_au6.txt`), labelText(kAu6));
    put(join(root, 'ActionUnit_Labels', name, `${name}_au12.txt`), labelText(kAu12, '\r\n'));
    for (let frame = 1; frame <= 12; frame++) {
      if (hasFrames) put(join(root, 'Frames_LeftCamera', name, frameName(frame)), bytes);
      const file = name === 'SN001' ? `SN001_${String(frame - 1).padStart(4, '0')}_lm.mat` : `l${String(frame).padStart(5, '0')}_lm.mat`;
      put(join(root, 'Landmark_Points', name, 'tmp_frame_lm', file), landmarkFile(ibug(), style));
    }
  }
  return root;
}

const place = {
  labels: (root: string, name = 'SN001', unit = 6) => join(root, 'ActionUnit_Labels', name, `${name}_au${unit}.txt`),
  frames: (root: string, name = 'SN001') => join(root, 'Frames_LeftCamera', name),
  landmarks: (root: string, name = 'SN001') => join(root, 'Landmark_Points', name, 'tmp_frame_lm'),
};
const lmFile = (root: string, frame: number) => join(place.landmarks(root), `SN001_${String(frame - 1).padStart(4, '0')}_lm.mat`);

/** Removes all that lies in a folder. */
function empty(folder: string): void {
  for (const name of readdirSync(folder)) rmSync(join(folder, name));
}

const reasons = (rejected: readonly { path: string; reason: string }[]) =>
  Object.fromEntries(rejected.map(({ path, reason }) => [path, reason]));

describe('DISFA with frames', () => {
  test('is recognized and packed by subject, action unit and intensity; intensity 0 is left out, and counted', async () => {
    const events: ListingEvent[] = [];
    const { data, rejected, leftOut, format, notes, picturesFile } = await pack(
      options(disfa(), { onListing: (event) => events.push(event) }),
    );
    expect([events, format]).toEqual([[{ type: 'format', format: 'disfa', isGiven: false }], 'disfa']);
    expect([data.attributes, [...data.subjects], rejected, leftOut]).toEqual([['AU12', 'AU6'], [0, 1], [], 2 * (24 - 8)]);
    expect(notes).toEqual([
      '32 labels of intensity 0 are left out.',
      expect.stringMatching(/^Of the 27 subjects of DISFA 25 are not here: SN003, SN004, .*, SN032\.$/),
    ]);
    expect(readFileSync(picturesFile, 'utf8').split('\n').slice(0, 9)).toEqual([
      'picture,subject,number,attribute,alpha,path,session,phase',
      '0,SN001,0,AU12,1,SN001/00003.jpg,,',
      '1,SN001,0,AU12,2,SN001/00012.jpg,,',
      '2,SN001,0,AU12,3,SN001/00004.jpg,,',
      '3,SN001,0,AU12,4,SN001/00006.jpg,,',
      '4,SN001,0,AU12,5,SN001/00005.jpg,,',
      '5,SN001,0,AU6,1,SN001/00003.jpg,,',
      '6,SN001,0,AU6,2,SN001/00004.jpg,,',
      '7,SN001,0,AU6,3,SN001/00009.jpg,,',
    ]);
  });

  test('is cut to the square of FFHQ, whatever its landmarks are written in', async () => {
    const face = await drawnFace(1);
    const sets: Buffer[] = [];
    for (const style of [{}, { isCompressed: true, type: 7 as const, kind: 7 }, { isBig: true }]) {
      const { data } = await pack(options(disfa(style), { size: 96 }));
      sets.push(readFileSync(join(data.folder, '00000.shard')));
    }
    const [first] = sets;
    const start = first!.readUInt32LE(64);
    const offBy = (x: number, y: number) => {
      let sum = 0;
      for (let i = 4; i < 92; i++)
        for (let j = 4; j < 92; j++)
          for (let c = 0; c < 3; c++) sum += Math.abs(face[3 * (96 * (i + y) + j + x) + c]! - first![start + 3 * (96 * i + j) + c]!);
      return sum / (3 * 88 ** 2);
    };
    const there = offBy(0, 0);
    expect(there).toBeLessThan(6); // JPEG, and what bilinear sampling takes
    for (const [x, y] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ] as const)
      expect(offBy(x, y)).toBeGreaterThan(1.2 * there);
    const [, single, big] = sets;
    expect(Buffer.compare(big!.subarray(start), first!.subarray(start))).toBe(0);
    const most = single!.subarray(start).reduce((most, value, i) => Math.max(most, Math.abs(value - first![start + i]!)), 0);
    expect(most).toBeLessThanOrEqual(1);
  });

  test('may have PNG frames, names in any case, and landmarks in the folder of the subject', async () => {
    const root = disfa();
    const png = await sharp(photos.get('SN001')!).png().toBuffer();
    for (let frame = 1; frame <= 12; frame++) put(join(place.frames(root), `${frame}.PNG`), png);
    for (let frame = 1; frame <= 12; frame++) rmSync(join(place.frames(root), frameName(frame)));
    renameSync(place.landmarks(root), join(root, 'Landmark_Points', 'lm'));
    rmSync(join(root, 'Landmark_Points', 'SN001'), { recursive: true });
    renameSync(join(root, 'Landmark_Points', 'lm'), join(root, 'Landmark_Points', 'sn001'));
    renameSync(join(root, 'ActionUnit_Labels', 'SN001'), join(root, 'ActionUnit_Labels', 'Sn001'));
    const { data, rejected } = await pack(options(root));
    expect([data.count, rejected]).toEqual([16, []]);
  });

  test('of one frame more or less than its labels, without a landmark file, or with some frames only, is packed and said to be so', async () => {
    const root = disfa();
    rmSync(join(place.frames(root), frameName(12)));
    rmSync(join(place.landmarks(root, 'SN002'), 'l00006_lm.mat'));
    for (const frame of [1, 2, 4]) rmSync(join(place.frames(root, 'SN002'), frameName(frame)));
    const { data, rejected, notes } = await pack(options(root));
    expect(reasons(rejected)).toEqual({
      'SN001/00012.jpg': 'there is no such frame',
      'SN002/00004.jpg': 'there is no such frame',
      'SN002/00006.jpg': 'it has no landmarks: there is no file of frame 6',
    });
    expect(notes.slice(0, 2)).toEqual([
      'SN001 has 11 frames and 12 labels.',
      'SN002: 1 of its 6 frames of intensity 1 to 5 have no usable landmarks.',
    ]);
    expect(data.count).toBe(16 - 1 - 2 - 1);
  });

  test('has frames that cannot be used, each with its reason', async () => {
    const root = disfa();
    const frames = place.frames(root);
    renameSync(join(frames, frameName(3)), join(frames, '00003.bmp'));
    writeFileSync(join(frames, '4.jpg'), readFileSync(join(frames, frameName(4))));
    writeFileSync(join(frames, 'notes.jpg'), 'text');
    writeFileSync(join(frames, '.DS_Store'), 'left by a system');
    writeFileSync(join(frames, frameName(5)), 'damaged');
    const { rejected } = await pack(options(root));
    expect(reasons(rejected)).toEqual({
      'SN001/00003.bmp': expect.stringMatching(/^its name does not end like that of a picture/),
      'SN001/4.jpg': 'it is frame 4, and so is 00004.jpg',
      'SN001/notes.jpg': 'its name is not the number of a frame, as 00001.jpg',
      'SN001/00005.jpg': expect.stringMatching(/^it is damaged/),
    });
  });

  test.each<[string, Parameters<typeof ibug>[0], string]>([
    ['zero', undefined, 'its landmarks are all zero'],
    ['outside of the picture', points(-90), 'its landmarks lie outside of the picture'],
    ['not numbers', [[Number.NaN, 1], ...points().slice(1)], 'its landmarks are not all numbers'],
    ['close together', points(61, 22, 16), 'its eyes are 4.0 pixels apart, and 8 are needed'],
    ['mirrored', [1, 0, 2, 4, 3].map((i) => points()[i]!), 'its left eye lies to the right of its right eye'],
    ['upside down', [3, 4, 2, 0, 1].map((i) => points()[i]!), 'its mouth lies above its eyes'],
    [
      'flat',
      [...points().slice(0, 3), [106, 72], [124, 72]],
      expect.stringMatching(/^its mouth lies 0\.\d+ distances of the eyes below them/),
    ],
    ['a line', [...points().slice(0, 3), [112, 95], [113, 95]], expect.stringMatching(/^its mouth is 0\.0\d+ distances of the eyes wide/)],
    ['behind the edge', points(185), expect.stringMatching(/^its landmarks lie outside of its 192 x 144 pixels$/)],
  ])('has landmarks that are %s, which are refused by name', async (_, five, reason) => {
    const root = disfa();
    put(lmFile(root, 4), landmarkFile(five ? ibug(five) : Array.from({ length: 66 }, () => [0, 0])));
    const { rejected } = await pack(options(root));
    // A frame is named for each action unit when it turns out as it is read.
    expect([...new Set(rejected.map((each) => JSON.stringify(each)))].map((text) => JSON.parse(text))).toEqual([
      { path: 'SN001/00004.jpg', reason },
    ]);
  });

  test('has landmark files that are none, which are refused by name', async () => {
    const root = disfa();
    put(lmFile(root, 3), 'text');
    put(lmFile(root, 4), landmarkFile(ibug().slice(1)));
    put(lmFile(root, 5), Buffer.alloc(2 ** 18 + 1));
    rmSync(lmFile(root, 6));
    mkdirSync(lmFile(root, 6));
    const { rejected } = await pack(options(root));
    expect(rejected.map(({ reason }) => reason)).toEqual([
      'its landmarks in SN001_0002_lm.mat: expected a MATLAB file of level 5 but found 4 bytes',
      'its landmarks in SN001_0003_lm.mat: expected 66 x 2 numbers but found 65 x 2',
      'its landmarks in SN001_0004_lm.mat: expected at most 262144 bytes but the file has 262145',
      'its landmarks in SN001_0005_lm.mat: it is not a file',
    ]);
  });

  test('has stretches in which the tracker has lost the face and drew one elsewhere', async () => {
    const root = disfa();
    const every = Array.from({ length: 12 }, () => 2);
    put(place.labels(root), labelText(every.map((two, i) => (i === 0 ? 1 : two))));
    put(lmFile(root, 7), landmarkFile(ibug(points(210, 80, 80))));
    put(lmFile(root, 8), landmarkFile(ibug(points(61, 22, 40))));
    put(lmFile(root, 9), landmarkFile(ibug(points(180, 22, 96))));
    const { rejected, notes } = await pack(options(root));
    expect(rejected).toEqual([
      { path: 'SN001/00007.jpg', reason: 'its landmarks lie 6.2 distances of the eyes from where the face usually is' },
      { path: 'SN001/00008.jpg', reason: 'its landmarks make a face 0.42 times as large as it usually is' },
      { path: 'SN001/00009.jpg', reason: 'its landmarks lie 5.0 distances of the eyes from where the face usually is' },
    ]);
    expect(notes).toContain('SN001: 3 of its 12 frames of intensity 1 to 5 have no usable landmarks.');
  });
});

describe('a subject of DISFA whose numbers do not fit', () => {
  const refused: [string, (root: string) => void, string | RegExp][] = [
    ['without labels', (root) => rmSync(join(root, 'ActionUnit_Labels', 'SN001'), { recursive: true }), 'it has no labels'],
    [
      'without landmarks and frames',
      (root) => {
        for (const folder of [join(root, 'Landmark_Points', 'SN001'), place.frames(root)]) rmSync(folder, { recursive: true });
      },
      'it has no landmarks and no frames',
    ],
    [
      'with frames numbered from 0',
      (root) => renameSync(join(place.frames(root), frameName(12)), join(place.frames(root), '00000.jpg')),
      /numbered from 0/,
    ],
    [
      'with more frames than labels',
      (root) => {
        for (const frame of [13, 14]) put(join(place.frames(root), frameName(frame)), photos.get('SN001')!);
      },
      'its frames go to 14 but its labels to 12: expected each frame of the video',
    ],
    [
      'with frames at half the rate',
      (root) => {
        for (const frame of [7, 8, 9, 10, 11, 12]) rmSync(join(place.frames(root), frameName(frame)));
      },
      'its frames go to 6 but its labels to 12: expected each frame of the video',
    ],
    ['without any frame', (root) => empty(place.frames(root)), /^there is no frame/],
    ['with fewer labels of one unit', (root) => put(place.labels(root), labelText(kAu6.slice(1))), 'AU6 has 11 labels and AU12 12'],
    [
      'with landmarks of both names',
      (root) => put(join(place.landmarks(root), 'l00001_lm.mat'), landmarkFile()),
      /^its landmarks are named in two ways/,
    ],
    [
      'with landmarks of another subject',
      (root) => put(join(place.landmarks(root), 'SN002_0000_lm.mat'), landmarkFile()),
      'SN002_0000_lm.mat among its landmarks is of another subject',
    ],
    [
      'with two landmark files of a frame',
      (root) => put(join(place.landmarks(root), 'SN001_00000_lm.mat'), landmarkFile()),
      /^two landmark files are of one frame/,
    ],
    [
      'with landmarks numbered from 1 by a name that counts from 0',
      (root) => renameSync(lmFile(root, 1), join(place.landmarks(root), 'SN001_0012_lm.mat')),
      /^its landmarks are numbered from 1: expected them from 0, by the name SN001_/,
    ],
    ['with a folder without landmarks', (root) => empty(place.landmarks(root)), /^there is no landmark file/],
  ];
  test.each(refused)('%s is refused as a whole, and the others are packed', async (_, change, reason) => {
    const root = disfa();
    change(root);
    const { data, rejected, notes } = await pack(options(root));
    const expected = typeof reason === 'string' ? reason : expect.stringMatching(reason);
    expect([data.count, data.subjects.length, rejected]).toEqual([8, 1, [{ path: 'SN001', reason: expected }]]);
    expect(notes[0]).toMatch(/^SN001 is not packed: /);
  });

  test.each([
    ['', 'it is empty'],
    ['1,0\n2,6\n', 'line 2: expected an intensity from 0 to 5 but found 6'],
    ['0,0\n1,0\n', 'line 1: expected frame 1 but found 0'],
    ['1,0\n3,0\n', 'line 2: expected frame 2 but found 3'],
    ['1,0\n\n2,0\n', 'line 2: expected "frame,intensity" but found ""'],
    ['1;0\n', 'line 1: expected "frame,intensity" but found "1;0"'],
    ['1,0.5\n', 'line 1: expected "frame,intensity" but found "1,0.5"'],
    ['frame,au\n', 'line 1: expected "frame,intensity" but found "frame,au"'],
  ])('has labels %j, which are refused with their line', (text, reason) => {
    expect(parseLabels(text)).toBe(reason);
  });

  test('has one action unit without labels that can be read: the other is packed', async () => {
    const root = disfa();
    put(place.labels(root), '1,0\n3,0\n');
    rmSync(place.labels(root, 'SN002', 12));
    const { data, rejected } = await pack(options(root));
    expect([data.count, reasons(rejected)]).toEqual([
      5 + 3,
      { 'SN001/AU6': 'SN001_au6.txt: line 2: expected frame 2 but found 3', 'SN002/AU12': 'there is no SN002_au12.txt' },
    ]);
    put(join(root, 'ActionUnit_Labels', 'SN001', 'SN001_AU06.TXT'), labelText(kAu6));
    expect(reasons((await pack(options(root))).rejected)['SN001/AU6']).toMatch(
      /^there are two files of labels: SN001_AU06\.TXT and SN001_au6\.txt$/,
    );
  });

  test('may read labels with any line ends and a mark at their beginning', () => {
    for (const end of ['\n', '\r\n', '\r'])
      expect([...(parseLabels(`\u00ef\u00bb\u00bf${labelText(kAu12, end)}`) as Uint8Array)]).toEqual(kAu12);
  });
});

describe('DISFA that is not there as a whole', () => {
  test.each([
    ['Landmark_Points', /^Expected a folder Landmark_Points in .* but found ActionUnit_Labels, Frames_LeftCamera$/],
    ['Frames_LeftCamera', /^Expected a folder Frames_LeftCamera or Videos_LeftCamera in .* but found ActionUnit_Labels, Landmark_Points$/],
  ])('without %s is refused by name', async (folder, message) => {
    const root = disfa();
    rmSync(join(root, folder), { recursive: true });
    const call = pack(options(root));
    await expect(call).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(message) });
  });

  test('but is asked for is refused, and so are options of others', async () => {
    const from = temporaryFolder();
    await expect(pack(options(from, { format: 'disfa' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `Expected a folder ActionUnit_Labels in ${from}, as "disfa" has, but found none`,
    });
    await expect(pack(options(disfa(), { format: 'table' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/^Expected folder, disfa, fgnet or auto for the folder .* for `format` but received "table"$/),
    });
    await expect(pack(options(disfa(), { site: 'A' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected none where `format` is disfa for `site` but received "A"',
    });
    await expect(pack(options(disfa(), { format: 'nosuch' as 'disfa' }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected one of auto, folder, table, disfa, fgnet, weight for `format` but received "nosuch"',
    });
  });

  test('with two folders of one kind is refused', async () => {
    const root = disfa();
    mkdirSync(join(root, 'Frame_LeftCamera'));
    await expect(pack(options(root))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/one folder like Frame_LeftCamera in .* but received "Frame_LeftCamera and Frames_LeftCamera"$/),
    });
  });
});

describe('DISFA with videos', () => {
  let bin: string;
  let root: string;
  beforeEach(() => {
    bin = temporaryFolder();
    root = disfa({}, false);
    for (const name of photos.keys()) put(join(root, 'Video_LeftCamera', `LeftVideo${name}_Comp.avi`), `video of ${name}`);
    put(join(root, 'Video_LeftCamera', 'LeftVideoSN031_comp.avi'), 'of nobody who has labels');
    vi.stubEnv('PATH', bin);
  });
  afterEach(() => vi.unstubAllEnvs());

  /** An ffmpeg that copies the picture and notes what it was asked. */
  function fakeFfmpeg(frames: number, ending = 'exit 0'): void {
    const picture = join(bin, 'picture.jpg');
    writeFileSync(picture, photos.get('SN001')!);
    const copies = `i=1; while [ $i -le ${frames} ]; do /bin/cp ${picture} $(printf %05d.jpg $i); i=$((i+1)); done`;
    writeFileSync(join(bin, 'ffmpeg'), `#!/bin/sh\necho "$PWD $@" >> ${join(bin, 'calls')}\n${copies}\n${ending}\n`);
    chmodSync(join(bin, 'ffmpeg'), 0o755);
  }
  const calls = () => readFileSync(join(bin, 'calls'), 'utf8').trim().split('\n');

  test('has its frames taken out by ffmpeg, once, beside the set', async () => {
    fakeFfmpeg(12);
    const events: ListingEvent[] = [];
    const set = options(root, { onListing: (event) => events.push(event) });
    const { data } = await pack(set);
    expect(data.count).toBe(16);
    const frames = join(set.out, '..', 'frames');
    expect(readdirSync(frames)).toEqual(['SN001', 'SN002']);
    expect(calls()).toHaveLength(2);
    const video = join(root, 'Video_LeftCamera', 'LeftVideoSN001_Comp.avi');
    expect(calls()[0]).toMatch(/^\S+\/frames\/SN001\.\d+-[^ ]+\.part -nostdin /);
    expect(calls()[0]).toContain(
      `-protocol_whitelist file -f avi -i file:${video} -map 0:v:0 -fps_mode passthrough -q:v 2 -start_number 1 %05d.jpg`,
    );
    expect(events.slice(1)).toEqual([
      { type: 'frames', name: 'SN001', done: 0, total: 2 },
      { type: 'frames', name: 'SN002', done: 1, total: 2 },
    ]);
    // Again, to another set: they are there. Without one of them: only that one is taken out.
    await pack({ ...set, out: join(temporaryFolder(), 'set'), frames });
    expect(calls()).toHaveLength(2);
    rmSync(join(frames, 'SN002'), { recursive: true });
    mkdirSync(join(frames, 'SN002.999999999-a.part'));
    await pack({ ...set, out: join(temporaryFolder(), 'set'), frames });
    expect([calls().length, readdirSync(frames)]).toEqual([3, ['SN001', 'SN002']]);
    // Frames of another video are not taken for this one's.
    writeFileSync(video, 'another video');
    await expect(pack({ ...set, out: join(temporaryFolder(), 'set'), frames })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/SN001 the frames of LeftVideoSN001_Comp\.avi, 13 bytes but found others$/),
    });
    // And where there are no videos any more, the folder of frames is enough.
    rmSync(join(root, 'Video_LeftCamera'), { recursive: true });
    expect((await pack({ ...set, out: join(temporaryFolder(), 'set'), frames })).data.count).toBe(16);
  });

  test('of one subject twice is refused', async () => {
    put(join(root, 'Video_LeftCamera', 'LeftVideoSN001.avi'), 'video');
    await expect(pack(options(root))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/one video of SN001 in .* but received "LeftVideoSN001\.avi and LeftVideoSN001_Comp\.avi"$/),
    });
  });

  test('needs ffmpeg, and says with which command the frames can be taken out elsewhere', async () => {
    const error: ComFaceError = await pack(options(root)).catch((e) => e);
    expect([error.code, error.message]).toEqual([
      'DEVICE_UNAVAILABLE',
      expect.stringMatching(/^Expected ffmpeg on the PATH, to take frames out of videos, but found none: /),
    ]);
    const frames = join(root, 'Frames_LeftCamera', 'SN001');
    const video = join(root, 'Video_LeftCamera', 'LeftVideoSN001_Comp.avi');
    expect(error.hint).toContain(
      `mkdir -p ${frames} && ffmpeg -nostdin -i ${video} -fps_mode passthrough -q:v 2 -start_number 1 ${join(frames, '%05d.jpg')}`,
    );
  });

  test('stops where ffmpeg fails, with its words, and leaves no half of the frames behind', async () => {
    fakeFfmpeg(3, 'echo "something" >&2; echo "moov atom not found" >&2; exit 1');
    const set = options(root);
    await expect(pack(set)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^ffmpeg cannot take the frames out of .*LeftVideoSN001_Comp\.avi: moov atom not found \(code 1\)$/),
    });
    expect(readdirSync(join(set.out, '..', 'frames'))).toEqual([]);
    expect(existsSync(set.out)).toBe(false);
  });

  test('asks an older ffmpeg in the way that it knows', async () => {
    fakeFfmpeg(12, `case "$*" in *fps_mode*) echo "Unrecognized option 'fps_mode'." >&2; exit 1;; esac`);
    expect((await pack(options(root))).data.count).toBe(16);
    expect(calls().map((call) => /-(fps_mode|vsync) passthrough/.exec(call)?.[1])).toEqual(['fps_mode', 'vsync', 'fps_mode', 'vsync']);
  });

  test('whose frames are fewer than the labels is refused by name', async () => {
    fakeFfmpeg(9);
    await expect(pack(options(root))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(
        /the first of 2 that cannot be used is SN001: its frames go to 9 but its labels to 12: expected each frame of the video$/,
      ),
    });
  });

  test('is stopped at once by its signal, with ffmpeg', async () => {
    fakeFfmpeg(1, '/bin/sleep 60');
    const stop = new AbortController();
    const set = options(root, {
      signal: stop.signal,
      onListing: ({ type }) => type === 'frames' && setTimeout(() => stop.abort('enough'), 100),
    });
    await expect(pack(set)).rejects.toBe('enough');
    expect(readdirSync(join(set.out, '..', 'frames'))).toEqual([]);
  });
});

const hasFfmpeg = spawnSync('ffmpeg', ['-version']).status === 0;

describe.skipIf(!hasFfmpeg)('with the real ffmpeg', () => {
  test('each frame of a video is taken out, once and in its order, and a damaged video is refused', async () => {
    const root = disfa({}, false);
    const videos = join(root, 'Videos_LeftCamera');
    mkdirSync(videos);
    for (const name of photos.keys()) {
      // Frame i is a gray of level 20 i; the time stamps leave gaps.
      const filters = "geq=lum='20*(N+1)':cb=128:cr=128,setpts='N+gt(N\\,4)*3'";
      const input = ['-f', 'lavfi', '-i', 'color=size=192x144:rate=20:duration=0.6', '-vf', filters];
      execFileSync('ffmpeg', [
        '-nostdin',
        '-loglevel',
        'error',
        ...input,
        '-fps_mode',
        'passthrough',
        '-c:v',
        'mjpeg',
        '-q:v',
        '2',
        join(videos, `LeftVideo${name}_comp.avi`),
      ]);
    }
    const { data } = await pack(options(root));
    const bytes = readFileSync(join(data.folder, '00000.shard'));
    const level = (picture: number) => bytes[bytes.readUInt32LE(64 + 8 * picture) + 3 * (32 * 16 + 16)]!;
    // AU12: frames 3, 12, 4, 6, 5 by intensity.
    const expected = [3, 12, 4, 6, 5].map((frame) => Math.min(255, ((20 * frame - 16) * 255) / 219));
    for (const [i, wanted] of expected.entries()) expect(Math.abs(level(i) - wanted)).toBeLessThan(12);
    const video = join(videos, 'LeftVideoSN002_comp.avi');
    writeFileSync(video, readFileSync(video).subarray(0, 300));
    await expect(pack(options(root))).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^ffmpeg cannot take the frames out of/),
    });
  });
});
