// Landmarks of drawn faces lie on the features that are drawn, whoever it is, however the head is held and whatever has changed; several changes
// at once, and frames of a video.
import { describe, expect, test } from 'vitest';
import { attributeIndex } from '../lib/data/attributes.ts';
import { type NativeShots, native } from '../lib/native.ts';
import { distance } from './support.ts';

const kPlain = 2 ** 32 - 1;

interface Row {
  subject?: number;
  photo?: number;
  frame?: number;
  changes?: readonly (readonly [string, number])[];
}

function shotsOf(rows: readonly Row[], { domain = 0, size = 128, changes = 1 } = {}): NativeShots {
  const places = Array.from({ length: changes }, (_, k) => k);
  return {
    seed: 1n,
    subject: Uint32Array.from(rows, ({ subject = 0 }) => subject),
    photo: Uint32Array.from(rows, ({ photo = kPlain }) => photo),
    attribute: Int32Array.from(rows.flatMap((row) => places.map((k) => (row.changes?.[k] ? attributeIndex(row.changes[k][0]) : -1)))),
    alpha: Float32Array.from(rows.flatMap((row) => places.map((k) => row.changes?.[k]?.[1] ?? 0))),
    ...(rows.some(({ frame }) => frame !== undefined) ? { frame: Int32Array.from(rows, ({ frame = -1 }) => frame) } : {}),
    domain,
    size,
  };
}

/** The points of each picture: 70 times x and y. */
async function locate(rows: readonly Row[], options: Parameters<typeof shotsOf>[1] = {}): Promise<[number, number][][]> {
  const numbers = await native().module.faceLandmarks(shotsOf(rows, options));
  expect(numbers).toHaveLength(140 * rows.length);
  return rows.map((_, i) => Array.from({ length: 70 }, (_, k) => [numbers[140 * i + 2 * k]!, numbers[140 * i + 2 * k + 1]!]));
}

async function draw(rows: readonly Row[], options: Parameters<typeof shotsOf>[1] = {}): Promise<Uint8Array[]> {
  const pixels = await native().module.drawFaces(shotsOf(rows, options), 2);
  const bytes = 3 * (options.size ?? 128) ** 2;
  return rows.map((_, i) => pixels.subarray(i * bytes, (i + 1) * bytes));
}

const middle = (points: readonly (readonly [number, number])[]): [number, number] => [
  points.reduce((sum, [x]) => sum + x, 0) / points.length,
  points.reduce((sum, [, y]) => sum + y, 0) / points.length,
];

/** Whether a polygon holds a point. */
function holds(polygon: readonly (readonly [number, number])[], [x, y]: readonly [number, number]): boolean {
  let inside = false;
  for (const [i, [ax, ay]] of polygon.entries()) {
    const [bx, by] = polygon[(i + 1) % polygon.length]!;
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;
const redness = ([r, g, b]: ArrayLike<number> & Iterable<number>): number => r! / (g! + b! + 1);

/** Middle of what is darker than the rest of an eye: of its iris. */
function darkest(eye: readonly (readonly [number, number])[], color: (x: number, y: number) => Uint8Array): [number, number] {
  const [left, top] = [0, 1].map((k) => Math.floor(Math.min(...eye.map((point) => point[k]!))));
  const [right, bottom] = [0, 1].map((k) => Math.ceil(Math.max(...eye.map((point) => point[k]!))));
  const inside: [number, number, number][] = [];
  for (let y = top!; y < bottom!; y++) {
    for (let x = left!; x < right!; x++) {
      if (holds(eye, [x + 0.5, y + 0.5])) inside.push([x + 0.5, y + 0.5, color(x, y).reduce((sum, v) => sum + v, 0)]);
    }
  }
  const level = median(inside.map(([, , light]) => light)) * 0.8;
  const dark = inside.map(([x, y, light]) => [x, y, Math.max(0, level - light)] as const);
  const total = dark.reduce((sum, [, , weight]) => sum + weight, 1e-9);
  return [
    dark.reduce((sum, [x, , weight]) => sum + x * weight, 0) / total,
    dark.reduce((sum, [, y, weight]) => sum + y * weight, 0) / total,
  ];
}

/** People in photographs of their own, some changed far to one side. */
const changed = ['smile', 'weight', 'age', 'Narrow_Eyes', 'Big_Lips', 'Mouth_Slightly_Open', 'Oval_Face', 'Male'] as const;
const crowd: Row[] = Array.from({ length: 160 }, (_, i) => ({
  subject: i,
  photo: i % 5 === 0 ? kPlain : i,
  changes: [[changed[i % changed.length]!, i % 3 === 0 ? 0 : i % 2 === 0 ? 5 : -5]],
}));

describe('landmarks of drawn faces', () => {
  test.each([0, 1])('stand in the order of iBUG, with the eye on the left of the picture first, in domain %i', async (domain) => {
    for (const points of await locate(crowd, { domain })) {
      const at = (from: number, to: number) => middle(points.slice(from, to));
      // Left and right as in the picture.
      const pairs = [
        [at(36, 42), at(42, 48)],
        [at(17, 22), at(22, 27)],
        [points[36], points[39]],
        [points[42], points[45]],
        [points[48], points[54]],
        [points[31], points[35]],
        [points[60], points[64]],
        [points[0], points[16]],
        [points[68], points[69]],
        [points[17], points[21]],
        [points[22], points[26]],
      ];
      expect(pairs.filter(([left, right]) => !(left![0] < right![0]))).toEqual([]);
      // From above to below.
      const down = [at(17, 27), at(36, 48), points[30]!, points[33]!, points[51]!, points[57]!, points[8]!];
      for (let i = 1; i < down.length; i++) expect(down[i]![1]).toBeGreaterThan(down[i - 1]![1]);
      for (const [upper, lower] of [
        [37, 41],
        [38, 40],
        [43, 47],
        [44, 46],
        [51, 57],
        [62, 66],
      ] as const)
        expect(points[lower]![1]).toBeGreaterThanOrEqual(points[upper]![1]);
    }
  });

  test.each([0, 1])('have the pupils between the lids, and the mouth inside the face, in domain %i', async (domain) => {
    for (const points of await locate(crowd, { domain })) {
      expect([holds(points.slice(36, 42), points[68]!), holds(points.slice(42, 48), points[69]!)]).toEqual([true, true]);
      const outline = [...points.slice(0, 17), points[26]!, points[17]!];
      expect(holds(outline, middle(points.slice(48, 60)))).toBe(true);
    }
  });

  test.each([0, 1])(
    'lie on what is drawn: the iris around the pupil, the red of the lips inside their line, in domain %i',
    async (domain) => {
      const rows = crowd.map(({ subject, photo }): Row => ({ subject: subject!, photo: photo!, changes: [['Eyeglasses', -5]] }));
      const size = 256;
      const [points, pictures] = [await locate(rows, { domain, size }), await draw(rows, { domain, size })];
      const across: number[] = [];
      const down: number[] = [];
      let [redder, lines] = [0, 0];
      for (const [i, at] of points.entries()) {
        const color = (x: number, y: number) =>
          pictures[i]!.subarray(3 * (Math.floor(y) * size + Math.floor(x)), 3 * (Math.floor(y) * size + Math.floor(x)) + 3);
        for (const [pupil, first] of [
          [68, 36],
          [69, 42],
        ] as const) {
          const [x, y] = darkest(at.slice(first, first + 6), color);
          across.push(Math.abs(x - at[pupil]![0]));
          down.push(Math.abs(y - at[pupil]![1]));
        }
        // Across the lower line of the lower lip and the upper one of the upper lip: three pixels to either side.
        for (const [line, to] of [
          [57, 51],
          [51, 57],
          [56, 52],
          [58, 50],
        ] as const) {
          const [x, y] = at[line]!;
          const length = Math.hypot(at[to]![0] - x, at[to]![1] - y);
          const [dx, dy] = [(3 * (at[to]![0] - x)) / length, (3 * (at[to]![1] - y)) / length];
          if (redness(color(x + dx, y + dy)) > redness(color(x - dx, y - dy))) redder++;
          lines++;
        }
      }
      // Three pixels of 256 in any direction fail here; 0.7, 0.9 and 0.98 were measured.
      expect(median(across)).toBeLessThan(1.5);
      expect(median(down)).toBeLessThan(1.8);
      expect(redder / lines).toBeGreaterThan(0.95);
    },
  );

  test('move with a smile, an open mouth, weight and narrow eyes', async () => {
    const of = async (name: string, alpha: number) => locate(crowd.map(({ subject }) => ({ subject: subject!, changes: [[name, alpha]] })));
    const apart = (points: [number, number][], a: number, b: number) =>
      Math.hypot(points[a]![0] - points[b]![0], points[a]![1] - points[b]![1]);
    const grows = async (name: string, measure: (points: [number, number][]) => number) => {
      const [low, zero, high] = [await of(name, -5), await of(name, 0), await of(name, 5)];
      return crowd.every((_, i) => measure(low[i]!) <= measure(zero[i]!) && measure(zero[i]!) < measure(high[i]!));
    };
    expect(await grows('smile', (points) => apart(points, 48, 54))).toBe(true);
    expect(await grows('smile', (points) => points[51]![1] - (points[48]![1] + points[54]![1]) / 2)).toBe(true); // corners rise
    expect(await grows('Mouth_Slightly_Open', (points) => apart(points, 62, 66))).toBe(true);
    expect(await grows('weight', (points) => apart(points, 4, 12))).toBe(true);
    expect(await grows('Narrow_Eyes', (points) => -apart(points, 37, 41) - apart(points, 44, 46))).toBe(true);
  });

  test('move with the head, and with the size of the picture', async () => {
    const rows = Array.from({ length: 30 }, (_, photo) => ({ subject: 4, photo }));
    const small = await locate(rows);
    const noses = small.map((points) => points[30]![0] - middle([points[36]!, points[45]!])[0]);
    expect(Math.max(...noses)).toBeGreaterThan(4); // turned to one side and to the other
    expect(Math.min(...noses)).toBeLessThan(-4);
    const large = await locate(rows, { size: 384 });
    for (const [i, points] of small.entries())
      for (const [k, [x, y]] of points.entries()) expect(Math.hypot(3 * x - large[i]![k]![0], 3 * y - large[i]![k]![1])).toBeLessThan(0.01);
  });
});

describe('several changes of a face', () => {
  test('are made one after the other, and none is none', async () => {
    const [both, first, second, padded] = await draw(
      [
        {
          changes: [
            ['weight', 4],
            ['smile', 3],
          ],
        },
        { changes: [['weight', 4]] },
        { changes: [['smile', 3]] },
        {
          changes: [
            ['smile', 0],
            ['smile', 3],
          ],
        },
      ],
      { changes: 2, size: 64 },
    );
    const one = (await draw([{ changes: [['smile', 3]] }], { size: 64 }))[0]!;
    expect(second).toEqual(one);
    expect(padded).toEqual(one);
    for (const other of [first!, second!]) expect(distance(both!, other)).toBeGreaterThan(0.02);
  });

  test('are refused beyond 8, and in lists that do not fit', async () => {
    const good = shotsOf([{}, {}], { changes: 8, size: 32 });
    await expect(native().module.drawFaces(good, 1)).resolves.toHaveLength(2 * 3 * 32 * 32);
    const bad: [Partial<NativeShots>, string][] = [
      [{ attribute: new Int32Array(18), alpha: new Float32Array(18) }, '1 to 8 changes of a picture'],
      [{ attribute: new Int32Array(0), alpha: new Float32Array(0) }, '1 to 8 changes of a picture'],
      [{ attribute: new Int32Array(3), alpha: new Float32Array(3) }, 'lists of one length'],
      [{ alpha: new Float32Array(15) }, 'lists of one length'],
      [{ attribute: new Int32Array(16).fill(43) }, 'an index from -1 to 42'],
      [{ alpha: new Float32Array(16).fill(5.1) }, 'a number from -5 to 5'],
      [{ frame: new Int32Array(1) }, 'one for each picture, or none'],
      [{ frame: Int32Array.of(0, -2) }, 'a number from -1 to 2^24 - 1'],
    ];
    for (const [change, text] of bad) {
      for (const call of [
        (shots: NativeShots) => native().module.drawFaces(shots, 1),
        (shots: NativeShots) => native().module.faceLandmarks(shots),
      ])
        expect(() => call({ ...good, ...change })).toThrow(
          expect.objectContaining({ code: 'INVALID_INPUT', message: expect.stringContaining(text) }),
        );
    }
  });
});

describe('frames of a video', () => {
  const frames = Array.from({ length: 400 }, (_, frame) => ({ subject: 9, photo: 3, frame }));

  test('drift slowly and by much', async () => {
    const points = await locate(frames, { size: 256 });
    const step = (a: number, b: number) => Math.hypot(points[a]![30]![0] - points[b]![30]![0], points[a]![30]![1] - points[b]![30]![1]);
    expect(Math.max(...frames.slice(1).map((_, i) => step(i, i + 1)))).toBeLessThan(2);
    expect(Math.max(...frames.map((_, i) => step(0, i)))).toBeGreaterThan(6);
  });

  test('have one light, camera and backdrop; a photograph is what it is without them', async () => {
    const [a, b, other, photograph] = await draw([frames[0]!, frames[300]!, { ...frames[0]!, photo: 4 }, { subject: 9, photo: 3 }], {
      size: 64,
    });
    // The corner above the head: grain alone differs.
    const corner = (picture: Uint8Array) => Array.from({ length: 4 }, (_, y) => [...picture.subarray(y * 64 * 3, y * 64 * 3 + 12)]).flat();
    const mean = (x: readonly number[], y: readonly number[]) => x.reduce((sum, v, i) => sum + Math.abs(v - y[i]!), 0) / x.length;
    expect(mean(corner(a!), corner(b!))).toBeLessThan(6);
    expect(mean(corner(a!), corner(other!))).toBeGreaterThan(12);
    expect((await draw([{ subject: 9, photo: 3 }], { size: 64 }))[0]).toEqual(photograph);
  });
});
