// The twin of DISFA (Mavadati et al., IEEE TAC 2013): people filmed while they smile and raise their cheeks now and then. Each is one video:
// light, camera and backdrop stay, the head drifts, AU12 and AU6 rise and fall.
import { join } from 'node:path';
import { native } from '../../native.js';
import { matrixFile } from './mat.js';
import {
  blocks,
  chunkOf,
  Draws,
  type Easel,
  jpegBytes,
  kBlockBytes,
  kLandmarkNumbers,
  kTwinQuality,
  shotsOf,
  smooth,
  type Twin,
  type TwinPicture,
  twinFirstSubject,
  writeTo,
} from './parts.js';
import { VideoFile } from './video.js';

// biome-ignore format: one line
const kSubjects = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32];
/** Frames of a video of the real set: 4 minutes of 20 a second. */
export const kDisfaFrames = 4845;
/** People of the real set. */
export const kDisfaSubjects = kSubjects.length;
const kActionUnits = [1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26];
const kFramesASecond = 20;
const kMostIntensity = 5;
const kDomain = 0;
/** Of the 68 points of iBUG the real set lacks the inner corners of the mouth. */
const kPoints = Array.from({ length: 68 }, (_, i) => i).filter((i) => i !== 60 && i !== 64);

/** What a face does for some seconds. */
interface Episode {
  start: number;
  rise: number;
  hold: number;
  fall: number;
  /** Intensities at its height. */
  au12: number;
  au6: number;
  /** Frames that the cheeks follow the mouth by. */
  lag: number;
}

/** Intensities from 0 to 5 of each frame of a whole video. */
interface Tracks {
  au6: Float64Array;
  au12: Float64Array;
}

function episodesOf(draws: Draws): Episode[] {
  const episodes: Episode[] = [];
  for (let start = draws.range(20, 120); start < kDisfaFrames; ) {
    const rise = draws.range(8, 30);
    const hold = draws.range(15, 120);
    const fall = draws.range(15, 60);
    const u = draws.uniform();
    const height = Math.min(kMostIntensity, 1 + 4.6 * u * Math.sqrt(u));
    const kind = draws.uniform();
    // Most smiles raise the cheeks, strong ones more; some do not, and some cheeks rise without a smile.
    const share = kind < 0.2 ? 0 : kind < 0.7 ? draws.range(0.55, 1) : draws.range(0.2, 0.7);
    const isSmile = kind < 0.82;
    const au6 = isSmile ? height * share : height;
    episodes.push({ start, rise, hold, fall, au12: isSmile ? height : 0, au6, lag: draws.range(-4, 12) });
    start += rise + hold + fall + draws.range(20, 260);
  }
  return episodes;
}

function tracksOf(seed: bigint, subject: number): Tracks {
  const tracks = { au6: new Float64Array(kDisfaFrames), au12: new Float64Array(kDisfaFrames) };
  for (const { start, rise, hold, fall, au12, au6, lag } of episodesOf(new Draws(seed, subject, 1))) {
    const level = (t: number) => smooth((t - start) / rise) * (1 - smooth((t - start - rise - hold) / fall));
    const last = Math.min(kDisfaFrames - 1, Math.ceil(start + rise + hold + fall + Math.abs(lag)));
    for (let t = Math.max(0, Math.floor(start + Math.min(0, lag))); t <= last; t++) {
      tracks.au12[t] = Math.max(tracks.au12[t]!, au12 * level(t));
      tracks.au6[t] = Math.max(tracks.au6[t]!, au6 * level(t - lag));
    }
  }
  return tracks;
}

/** One person's video. */
export interface DisfaVideo {
  /** As its files are called: SN001. */
  name: string;
  /** Intensities of each frame, integers from 0 to 5. */
  au6: number[];
  au12: number[];
  pictures: TwinPicture[];
}

/** A video of fewer frames is of the same four minutes, in larger steps. */
export function disfaVideo(seed: bigint, index: number, frames: number): DisfaVideo {
  const subject = twinFirstSubject.disfa + index;
  const tracks = tracksOf(seed, subject);
  // One person's full smile is another one's half.
  const habits = new Draws(seed, subject, 2);
  const [smile, cheeks] = [habits.range(0.75, 1), habits.range(0.75, 1)];
  const ticks = Array.from({ length: frames }, (_, i) => Math.floor((i * kDisfaFrames) / frames));
  return {
    name: `SN${String(kSubjects[index]).padStart(3, '0')}`,
    au6: ticks.map((t) => Math.round(tracks.au6[t]!)),
    au12: ticks.map((t) => Math.round(tracks.au12[t]!)),
    pictures: ticks.map((t) => ({
      subject,
      photo: 0,
      frame: t,
      changes: [
        ['smile', smile * tracks.au12[t]!],
        ['High_Cheekbones', 0.8 * cheeks * tracks.au6[t]!],
        ['Narrow_Eyes', 0.6 * cheeks * tracks.au6[t]!],
      ],
    })),
  };
}

/** `pts` of one frame, 66 x 2, from the 70 points of the renderer. */
function pointsFile(points: Float32Array): Uint8Array {
  return matrixFile('pts', kPoints.length, 2, [...kPoints.map((i) => points[2 * i]!), ...kPoints.map((i) => points[2 * i + 1]!)]);
}

/** The twin of DISFA: `subjects` videos of `frames` frames, as JPEG files or, with `video`, as AVI. */
export function disfaTwin(seed: bigint, subjects: number, frames: number, video: boolean): Twin {
  const names = kSubjects.slice(0, subjects).map((number) => `SN${String(number).padStart(3, '0')}`);
  const pictureFolder = (name: string) => (video ? 'Videos_LeftCamera' : `Frames_LeftCamera/${name}`);
  return {
    pictures: subjects * frames,
    subjects,
    folders: names.flatMap((name) => [`ActionUnit_Labels/${name}`, `Landmark_Points/${name}/tmp_frame_lm`, pictureFolder(name)]),
    async sizeOf(easel, at) {
      const picture = disfaVideo(seed, Math.floor(at / frames), frames).pictures[at % frames]!;
      return blocks(await jpegBytes(easel, picture, kDomain)) + kBlockBytes;
    },
    async *write(easel) {
      for (const index of names.keys()) yield* writeVideo(easel, disfaVideo(seed, index, frames), video);
    },
  };
}

async function* writeVideo(easel: Easel, { name, au6, au12, pictures }: DisfaVideo, video: boolean): AsyncGenerator<number> {
  for (const unit of kActionUnits) {
    const track = unit === 6 ? au6 : unit === 12 ? au12 : undefined;
    const lines = pictures.map((_, i) => `${i + 1},${track?.[i] ?? 0}\n`);
    await writeTo(easel, `ActionUnit_Labels/${name}/${name}_au${unit}.txt`, lines.join(''));
  }
  const { module } = native();
  const film = video
    ? new VideoFile(join(easel.out, `Videos_LeftCamera/LeftVideo${name}_comp.avi`), easel.size, kFramesASecond)
    : undefined;
  try {
    for (let from = 0; from < pictures.length; from += chunkOf(easel)) {
      const some = pictures.slice(from, from + chunkOf(easel));
      const shots = shotsOf(easel, some, kDomain);
      const points = await module.faceLandmarks(shots);
      if (film) await film.add(await module.drawFaces(shots, easel.threads));
      else {
        const paths = some.map((_, i) => join(easel.out, `Frames_LeftCamera/${name}/${String(from + i + 1).padStart(5, '0')}.jpg`));
        await module.writeFaces(shots, paths, kTwinQuality, easel.threads);
      }
      const pointsOf = (i: number) => points.subarray(i * kLandmarkNumbers, (i + 1) * kLandmarkNumbers);
      const file = (i: number) => `Landmark_Points/${name}/tmp_frame_lm/${name}_${String(from + i).padStart(4, '0')}_lm.mat`;
      await Promise.all(some.map((_, i) => writeTo(easel, file(i), pointsFile(pointsOf(i)))));
      yield some.length;
    }
    await film?.end();
  } finally {
    film?.abandon();
  }
}
