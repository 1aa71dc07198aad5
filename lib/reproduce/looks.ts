// Figure 4 of the paper: where pre-trained backbones look, by Eigen-CAM, on drawn faces. The paper shows one face; the share of the map that lies
// between brows and mouth is ours, so that there is a number.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkTrainOptions } from '../config.js';
import { loadSharp } from '../data/picture.js';
import { loadState, Model } from '../model.js';
import { native, workerCount } from '../native.js';
import { overlay, type Saliency } from '../report/saliency.js';
import { mean } from '../transfer/metrics.js';
import { comparators } from '../weights/comparators.js';
import type { Scale } from './scales.js';
import { type Cell, lookers, rivalLookers } from './tables.js';
import type { Workshop, WorkshopOptions } from './workshop.js';

const kFaces = 48;
const kShown = 4;
/** Of the pictures, and of the views whatever the networks were trained at: the last block of a ResNet has 7 x 7 places then. */
const kEdge = 224;
/** People whom no data set made with usual numbers has. */
const kFirstPerson = 2_100_000;
/** Of faceLandmarks: from the brows (17) to the inner lips (67), without the jaw. */
const kInner = [17, 68] as const;
const kPoints = 70;
const kNormal95 = 1.96;

/** Faces to look at. */
interface Faces {
  files: string[];
  rgb: Uint8Array[];
  /** Left, top, right and bottom of what lies between brows and mouth, in pixels. */
  inner: [number, number, number, number][];
}

/**
 * Looks at drawn faces through each backbone.
 *
 * @returns A row for each: the share of its maps between brows and mouth, in percent; and a sheet (PNG): a face a row, then what each looks at.
 */
export async function looks(
  workshop: Workshop,
  { scale, place, signal }: Pick<WorkshopOptions, 'place' | 'signal'> & { scale: Scale },
  seed: number,
): Promise<{ rows: { name: string; cells: Cell[] }[]; sheet: Uint8Array }> {
  const folder = await mkdtemp(join(tmpdir(), 'comface-looks-'));
  try {
    const faces = await drawFaces(folder);
    const rows: { name: string; cells: Cell[] }[] = [];
    const columns: Uint8Array[][] = [faces.rgb.slice(0, kShown)];
    const all = [...rivalLookers.map((rival) => ({ name: comparators[rival].title, rival })), ...lookers];
    for (const { name, ...how } of all) {
      const run = 'rival' in how ? workshop.rivalOf(how) : await workshop.pretrained(how.variant, seed);
      if ('rival' in how && run === undefined) continue;
      const { backbone = 'resnet50', width = 64 } = scale.train;
      const state = run === undefined ? undefined : await loadState(run);
      const design = state?.design ?? { backbone, width, size: kEdge, augment: checkTrainOptions({ data: 'data', out: 'out' }).augment };
      await using model = await Model.from({ ...design, size: kEdge }, state?.weights ?? { seed }, place);
      const maps: Saliency[] = [];
      for (const file of faces.files) maps.push(await model.saliency(file, { signal }));
      rows.push({ name, cells: [cellOf(maps.map((map, i) => 100 * shareIn(map, faces.inner[i]!)))] });
      columns.push(faces.rgb.slice(0, kShown).map((rgb, i) => overlay(rgb, { width: kEdge, height: kEdge }, maps[i]!)));
    }
    return { rows, sheet: await sheetOf(columns) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function drawFaces(folder: string): Promise<Faces> {
  const { module } = native();
  const numbers = Array.from({ length: kFaces }, (_, i) => i);
  const shots = {
    seed: 1n,
    subject: Uint32Array.from(numbers, (i) => kFirstPerson + i),
    photo: Uint32Array.from(numbers),
    attribute: new Int32Array(kFaces).fill(-1),
    alpha: new Float32Array(kFaces),
    ...{ domain: 0, size: kEdge },
  };
  const files = numbers.map((i) => join(folder, `${i}.jpg`));
  await module.writeFaces(shots, files, 95, workerCount(0));
  const pixels = await module.drawFaces(shots, workerCount(0));
  const points = await module.faceLandmarks(shots);
  const area = kEdge * kEdge * 3;
  const inner = numbers.map((i): Faces['inner'][number] => {
    const own = Array.from({ length: kInner[1] - kInner[0] }, (_, p) => 2 * (i * kPoints + kInner[0] + p));
    const [x, y] = [own.map((at) => points[at]!), own.map((at) => points[at + 1]!)];
    return [Math.min(...x), Math.min(...y), Math.max(...x), Math.max(...y)];
  });
  return { files, rgb: numbers.map((i) => pixels.subarray(i * area, (i + 1) * area)), inner };
}

/** How much of a map lies in a box; of one that is zero everywhere, nothing. */
function shareIn({ size, map }: Saliency, [left, top, right, bottom]: Faces['inner'][number]): number {
  let [inside, all] = [0, 0];
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const value = map[y * size + x]!;
      all += value;
      if (x >= left && x < right && y >= top && y < bottom) inside += value;
    }
  }
  return all > 0 ? inside / all : 0;
}

/** Mean and its 95 % interval (normal) over the faces. */
function cellOf(shares: number[]): Cell {
  const value = mean(shares);
  const deviation = Math.sqrt(mean(shares.map((share) => (share - value) ** 2)) / (shares.length - 1));
  return { value, low: value - kNormal95 * deviation, high: value + kNormal95 * deviation, values: [value], paper: null };
}

/** Pictures in columns, side by side. */
async function sheetOf(columns: readonly Uint8Array[][]): Promise<Uint8Array> {
  const [width, height] = [columns.length * kEdge, kShown * kEdge];
  const open = await loadSharp();
  const raw = { width: kEdge, height: kEdge, channels: 3 as const };
  const tiles = columns.flatMap((column, x) => column.map((rgb, y) => ({ input: Buffer.from(rgb), raw, left: x * kEdge, top: y * kEdge })));
  const sheet = open(new Uint8Array(width * height * 3), { raw: { width, height, channels: 3 } });
  return sheet.composite(tiles).png().toBuffer();
}
