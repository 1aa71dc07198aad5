// The twin of FG-NET (Panis et al., IET Biometrics 2016): people photographed from childhood to old age, with other cameras and other light, some
// in gray. Points lie in the order of XM2VTS, which is not that of iBUG.
import sharp from 'sharp';
import { native } from '../../native.js';
import { keyedPermutation, Purpose } from '../random.js';
import {
  blocks,
  curve,
  Draws,
  type Easel,
  jpegBytes,
  kBlockBytes,
  kTwinQuality,
  sharesOf,
  shotsOf,
  type Twin,
  type TwinPicture,
  twinFirstSubject,
  writeTo,
} from './parts.js';

/** What the real set has. */
export const kFgnetSubjects = 82;
const kPictures = 1002;
const kChildren = 444;
const kGray = 175;
const kLeastPictures = 6;
const kMostPictures = 18;
/** Children are younger. */
const kGrown = 12;
const kOldest = 69;
/** For what concerns the set and nobody in it. */
const kSetStream = 1;
const kPeopleStream = 2;
const kPictureStream = 3;
const kPaceStream = 100;
/** Of what an attribute could show. With all of it an untrained network tells ages from a few hundred pairs. */
const kVisible = 0.5;
const kPace = 0.25;
const kYears = 5;
/** Orders that decide who is a child, and what is gray. */
const kChildOrder = 1;
const kGrayOrder = 2;

/** A photograph of the twin. */
export interface FgnetPicture {
  /** Number of the person, from 1. */
  person: number;
  age: number;
  /** Of several at one age, else empty. */
  letter: string;
  isGray: boolean;
  domain: number;
  /** Pixels drawn, of the twin's size, and the part of them that is kept, from the middle of each line. */
  scale: number;
  width: number;
  picture: TwinPicture;
}

/** Attributes by age, as points (years, alpha): what makes an old face old, and a child's a child's. Each goes one way. */
// biome-ignore format: a line each
const kAging = [
  ['age', [[0, -5], [kOldest, 5]]],
  ['Young', [[0, 5], [18, 1], [kOldest, -3]]],
  ['Gray_Hair', [[30, -5], [kOldest, 4]]],
  ['Bald', [[25, -5], [kOldest, 0]]],
  ['No_Beard', [[14, 5], [20, 0]]],
  ['Narrow_Eyes', [[0, -4], [16, 0], [kOldest, 1]]],
  ['Big_Nose', [[0, -5], [18, 0], [kOldest, 1]]],
  ['Heavy_Makeup', [[12, -5], [18, 0]]],
] as const;

const changesAt = (age: number): TwinPicture['changes'] => kAging.map(([name, points]) => [name, kVisible * curve(points, age)] as const);

/** How old somebody looks: some people age faster, and in every picture a little more or less. */
function looksOf(seed: bigint, subject: number, draws: Draws, age: number): number {
  const pace = new Draws(seed, subject, kPaceStream).range(1 - kPace, 1 + kPace);
  const years = age * pace + draws.range(-kYears, kYears) + draws.range(-kYears, kYears);
  return Math.min(kOldest, Math.max(0, years));
}

/** Every photograph of the whole twin, by person and age. */
export function fgnetPictures(seed: bigint): FgnetPicture[] {
  const set = new Draws(seed, twinFirstSubject.fgnet, kSetStream);
  const shares = sharesOf(set, kPictures, kFgnetSubjects, kLeastPictures, kMostPictures);
  const isChild = among(seed, kChildOrder, kChildren);
  const isGray = among(seed, kGrayOrder, kGray);
  let first = 0;
  const ages = shares.map((count, index) => {
    const draws = new Draws(seed, twinFirstSubject.fgnet + index, kPeopleStream);
    const limit = 18 + draws.below(kOldest - 17);
    const grown = () => {
      const u = draws.uniform();
      return kGrown + Math.floor((limit + 1 - kGrown) * u * Math.sqrt(u));
    };
    const from = first;
    first += count;
    return Array.from({ length: count }, (_, i) => (isChild(from + i) ? draws.below(kGrown) : grown())).sort((a, b) => a - b);
  });
  const oldest = ages.reduce((a, b) => (b.at(-1)! > a.at(-1)! ? b : a));
  oldest[oldest.length - 1] = kOldest;
  first = 0;
  return ages.flatMap((list, index) => {
    const pictures = list.map((age, i) => photograph(seed, index, list, age, i, isGray(first + i)));
    first += list.length;
    return pictures;
  });
}

/** Whether a picture is among `count` of all that are chosen by chance. */
function among(seed: bigint, order: number, count: number): (index: number) => boolean {
  const place = keyedPermutation(seed, Purpose.twin, order, kPictures);
  return (index) => place(index) < count;
}

function photograph(seed: bigint, index: number, ages: readonly number[], age: number, photo: number, isGray: boolean): FgnetPicture {
  const subject = twinFirstSubject.fgnet + index;
  const draws = new Draws(seed, subject, kPictureStream + photo);
  const domain = draws.below(2);
  const [scale, width] = [draws.range(0.8, 1.25), draws.range(0.85, 1)];
  const isAlone = ages.indexOf(age) === ages.lastIndexOf(age);
  return {
    person: index + 1,
    age,
    letter: isAlone ? '' : String.fromCharCode(97 + photo - ages.indexOf(age)),
    isGray,
    ...{ domain, scale, width },
    picture: { subject, photo, frame: -1, changes: changesAt(looksOf(seed, subject, draws, age)) },
  };
}

/** Midway, or at another share of the way, between two points of iBUG. */
type Mixed = readonly [from: number, to: number, share: number];
const at = (point: number): Mixed => [point, point, 0];
/** An outline of 15 points through one of 17. */
const jaw = Array.from({ length: 15 }, (_, i): Mixed => {
  const place = (16 * i) / 14;
  return [Math.floor(place), Math.ceil(place), place % 1];
});
const brow = (outer: number, step: number, lid: number): Mixed[] => [
  at(outer),
  at(outer + step),
  at(outer + 3 * step),
  at(outer + 4 * step),
  [outer + 3 * step, lid, 0.15],
  [outer + step, lid, 0.15],
];
const kLeftPupil = 68;
/** Each point of XM2VTS by those of iBUG and the pupils: left and right as in the picture. */
const kXm2vts: readonly Mixed[] = [
  ...jaw,
  ...brow(26, -1, 44),
  ...brow(17, 1, 37),
  ...[at(36), [37, 38, 0.5] as const, at(39), [41, 40, 0.5] as const, at(kLeftPupil)],
  ...[at(45), [44, 43, 0.5] as const, at(42), [46, 47, 0.5] as const, at(kLeftPupil + 1)],
  ...[[27, 39, 0.5] as const, [30, 39, 0.35] as const, [31, 29, 0.1] as const, at(32), at(33), at(34), [35, 29, 0.1] as const],
  ...[[30, 42, 0.35] as const, [27, 42, 0.5] as const, [32, 30, 0.25] as const, [34, 30, 0.25] as const],
  ...Array.from({ length: 12 }, (_, i) => at(48 + i)),
  ...[67, 66, 65, 63, 62, 61].map(at),
  [62, 66, 0.5],
  at(30),
];

/** The file of points of one picture. @param points The 70 of the renderer. @param left Pixels cut off. */
function pointsText(points: Float32Array, left: number): string {
  const lines = kXm2vts.map(([from, to, share]) => {
    const [x, y] = [0, 1].map((k) => points[2 * from + k]! * (1 - share) + points[2 * to + k]! * share);
    return `${(x! - left).toFixed(3)} ${y!.toFixed(3)}\n`;
  });
  return `version: 1\nn_points: ${kXm2vts.length}\n{\n${lines.join('')}}\n`;
}

/** The twin of FG-NET: the first `subjects` people of it. */
export function fgnetTwin(seed: bigint, subjects: number): Twin {
  const pictures = fgnetPictures(seed).filter(({ person }) => person <= subjects);
  return {
    pictures: pictures.length,
    subjects,
    folders: ['FGNET/images', 'FGNET/points'],
    sizeOf: async (easel, index) => {
      const { picture, domain } = pictures[index]!;
      return blocks(await jpegBytes(easel, picture, domain)) + kBlockBytes;
    },
    async *write(easel) {
      for (const picture of pictures) {
        await writePicture(easel, picture);
        yield 1;
      }
    },
  };
}

async function writePicture(easel: Easel, { person, age, letter, isGray, domain, scale, width, picture }: FgnetPicture): Promise<void> {
  const { module } = native();
  const size = Math.min(512, Math.max(32, Math.round(easel.size * scale)));
  const shots = shotsOf({ ...easel, size }, [picture], domain);
  const [pixels, points] = [await module.drawFaces(shots, 1), await module.faceLandmarks(shots)];
  const kept = Math.round(size * width);
  const left = Math.floor((size - kept) / 2);
  const rgb = new Uint8Array(kept * size * 3);
  for (let y = 0; y < size; y++) rgb.set(pixels.subarray((y * size + left) * 3, (y * size + left + kept) * 3), y * kept * 3);
  const jpeg = isGray ? await grayJpeg(rgb, kept, size) : await module.encodeJpeg(rgb, kept, size, kTwinQuality);
  const years = `${String(age).padStart(2, '0')}${letter}`;
  const name = String(person).padStart(3, '0');
  await writeTo(easel, `FGNET/images/${name}A${years}.JPG`, jpeg);
  await writeTo(easel, `FGNET/points/${name}a${years}.pts`, pointsText(points, left));
}

/** A JPEG with one channel. */
function grayJpeg(rgb: Uint8Array, width: number, height: number): Promise<Buffer> {
  return sharp(rgb, { raw: { width, height, channels: 3 } })
    .toColourspace('b-w')
    .jpeg({ quality: kTwinQuality })
    .toBuffer();
}
