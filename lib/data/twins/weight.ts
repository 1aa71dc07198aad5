// The twin of Edema-A and Edema-B (Akamatsu et al., section 4.1): dialysis patients of two hospitals before and after, a short video each time.
// Fluid shows in the face, in some more than in others; the table has a line for each frame.
import { join } from 'node:path';
import { native } from '../../native.js';
import {
  appendTo,
  blocks,
  chunkOf,
  Draws,
  type Easel,
  jpegBytes,
  kLandmarkNumbers,
  kTwinQuality,
  sharesOf,
  shotsOf,
  type Twin,
  type TwinPicture,
  twinFirstSubject,
  writeTo,
} from './parts.js';

/** What the real sets have: data points count before and after apart. */
const kSets = [
  { name: 'Edema-A', site: 'A', patients: 38, dataPoints: 392, domain: 0 },
  { name: 'Edema-B', site: 'B', patients: 19, dataPoints: 320, domain: 1 },
] as const;
export const kWeightSubjects = 57;
/** Frames of a data point. */
export const kWeightFrames = 100;
/** Between the first patients of the sets. */
const kSetStride = 1000;
const kLeastSessions = 2;
const kMostSessions = 14;
/** Frames of the camera between two that are kept. */
const kStep = 3;
const kTable = 'weight.csv';
/** Steps of alpha for a kilogram of fluid, in the average face, and how much of it the average face shows at alpha 0. */
const kAlphaOfKilogram = 1;
const kUsualExcess = 1.4;
/** Of flesh the face shows less. */
const kAlphaOfFlesh = 0.3;
const kNoise = 0.3;
const kFirstDay = Date.UTC(2021, 0, 4);
const kDayMs = 86_400_000;
const kMinuteMs = 60_000;
/** Streams of draws: of a set, and of a patient. */
const kSetStream = 1;
const kPatientStream = 2;
/** A line has some 900 bytes. */
const kLineBytes = 900;

/** One time that a patient was filmed and weighed. */
export interface WeightPoint {
  dataset: string;
  site: string;
  domain: number;
  patient: string;
  session: string;
  phase: 'pre' | 'post';
  time: string;
  kilograms: number;
  /** Dry weight of the day. */
  dryKilograms: number;
  subject: number;
  photo: number;
  changes: TwinPicture['changes'];
}

/** Every data point of a patient: a session is before and after. */
function patientPoints(seed: bigint, which: (typeof kSets)[number], index: number, sessions: number): WeightPoint[] {
  const subject = twinFirstSubject.weight + kSets.indexOf(which) * kSetStride + index;
  const draws = new Draws(seed, subject, kPatientStream);
  const patient = `${which.site}${String(index + 1).padStart(2, '0')}`;
  const usualDry = draws.range(42, 88);
  const gain = draws.range(0.6, 1.4);
  const lids = draws.range(0.4, 1.1);
  let dry = usualDry;
  let day = kFirstDay + draws.below(20) * kDayMs;
  return Array.from({ length: sessions }, (_, s) => {
    const before = Math.min(4, Math.max(1, 2.5 + 0.6 * draws.normal()));
    const after = 0.15 * draws.normal();
    const morning = day + (8 * 60 + draws.below(90)) * kMinuteMs;
    const evening = morning + (220 + draws.below(50)) * kMinuteMs;
    const points = (['pre', 'post'] as const).map((phase, p): WeightPoint => {
      const excess = phase === 'pre' ? before : after;
      const fluid = kAlphaOfKilogram * gain * (excess - kUsualExcess) + kNoise * draws.normal();
      return {
        ...{ dataset: which.name, site: which.site, domain: which.domain, patient, phase, subject },
        session: `${patient}-S${String(s + 1).padStart(2, '0')}`,
        time: new Date(phase === 'pre' ? morning : evening).toISOString().slice(0, 19),
        kilograms: Math.round((dry + excess) * 10) / 10,
        dryKilograms: dry,
        photo: 2 * s + p,
        changes: [
          ['weight', fluid + kAlphaOfFlesh * (dry - usualDry)],
          ['Bags_Under_Eyes', lids * fluid],
        ],
      };
    });
    day += (2 + draws.below(6)) * kDayMs;
    dry += 0.25 * draws.normal();
    return points;
  }).flat();
}

/** Every data point of the whole twin, set by set and patient by patient. */
export function weightPoints(seed: bigint): WeightPoint[] {
  return kSets.flatMap((which, i) => {
    const draws = new Draws(seed, twinFirstSubject.weight + i * kSetStride, kSetStream);
    const shares = sharesOf(draws, which.dataPoints / 2, which.patients, kLeastSessions, kMostSessions);
    return shares.flatMap((sessions, index) => patientPoints(seed, which, index, sessions));
  });
}

/** The first patients of either set, two of Edema-A for one of Edema-B. */
function chosen(seed: bigint, subjects: number): WeightPoint[] {
  const ofFirst = Math.round((subjects * kSets[0].patients) / kWeightSubjects);
  const most = new Map<string, number>([
    [kSets[0].name, ofFirst],
    [kSets[1].name, subjects - ofFirst],
  ]);
  return weightPoints(seed).filter(({ dataset, patient }) => Number(patient.slice(1)) <= most.get(dataset)!);
}

const kColumns = 'dataset,patient_id,session_id,phase,capture_time,weight_kg,frame_index,image_path,site';
const header = `${kColumns},${Array.from({ length: 68 }, (_, i) => `x${i + 1},y${i + 1}`).join()}\n`;

const folderOf = ({ dataset, patient, session, phase }: WeightPoint): string => `images/${dataset}/${patient}/${session}_${phase}`;
const pictureOf = ({ subject, photo, changes }: WeightPoint, frame: number): TwinPicture => ({
  ...{ subject, photo, changes },
  frame: frame * kStep,
});

/** The twin of the weight sets: `subjects` patients, `frames` frames of each data point. */
export function weightTwin(seed: bigint, subjects: number, frames: number): Twin {
  const points = chosen(seed, subjects);
  return {
    pictures: points.length * frames,
    subjects,
    folders: points.map(folderOf),
    async sizeOf(easel, at) {
      const point = points[Math.floor(at / frames)]!;
      return blocks(await jpegBytes(easel, pictureOf(point, at % frames), point.domain)) + kLineBytes;
    },
    async *write(easel) {
      await writeTo(easel, kTable, header);
      for (const point of points) yield* writePoint(easel, point, frames);
    },
  };
}

async function* writePoint(easel: Easel, point: WeightPoint, frames: number): AsyncGenerator<number> {
  const { module } = native();
  const { dataset, patient, session, phase, time, kilograms, site, domain } = point;
  for (let from = 0; from < frames; from += chunkOf(easel)) {
    const numbers = Array.from({ length: Math.min(chunkOf(easel), frames - from) }, (_, i) => from + i);
    const shots = shotsOf(
      easel,
      numbers.map((frame) => pictureOf(point, frame)),
      domain,
    );
    const files = numbers.map((frame) => `${folderOf(point)}/${String(frame).padStart(3, '0')}.jpg`);
    const places = await module.faceLandmarks(shots);
    await module.writeFaces(
      shots,
      files.map((file) => join(easel.out, file)),
      kTwinQuality,
      easel.threads,
    );
    const lines = files.map((file, i) => {
      const known = [dataset, patient, session, phase, time, kilograms.toFixed(1), numbers[i], file, site];
      const landmarks = places.subarray(i * kLandmarkNumbers, i * kLandmarkNumbers + 2 * 68);
      return `${[...known, ...Array.from(landmarks, (v) => v.toFixed(2))].join()}\n`;
    });
    await appendTo(easel, kTable, lines.join(''));
    yield numbers.length;
  }
}
