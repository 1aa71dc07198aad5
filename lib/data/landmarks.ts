// The five points of a face that pack aligns by, from the schemes that data sets bring, and whether they can be those of a face: trackers that lost
// one go on drawing points.
import { mean, type Point } from './align.js';

const kLeastPixels = 8;
/** From the middle of the eyes to that of the mouth, in distances of the eyes: about 1.1 from the front, more from the side. */
const kLeastHeight = 0.4;
const kMostHeight = 4;
const kLeastMouth = 0.15;
/** How far a pupil may lie outside of the lids, in widths of the eye: of closed eyes they are one line. */
const kLids = 0.2;

/** Left and right eye, nose, left and right corner of the mouth, as in the picture. */
export type Five = readonly [Point, Point, Point, Point, Point];

/** Of the first 66 or all 68 points of iBUG. */
export function fiveOfIbug(points: readonly Point[]): Five {
  return [mean(points.slice(36, 42)), mean(points.slice(42, 48)), points[30]!, points[48]!, points[54]!];
}

/**
 * Of the 68 points of XM2VTS, as FG-NET has them: eyes 27-30 and 32-35 with the pupils 31 and 36, outer lips 48-59, tip of the nose 67.
 *
 * @returns What contradicts that: points of iBUG have a nose where these have eyes.
 */
export function fiveOfXm2vts(points: readonly Point[]): Five | string {
  for (const [first, pupil] of [
    [27, 31],
    [32, 36],
  ] as const) {
    const lids = points.slice(first, first + 4);
    const width = Math.hypot(lids[0]![0] - lids[2]![0], lids[0]![1] - lids[2]![1]);
    if (!isWithin(points[pupil]!, lids, kLids * width))
      return `its points are not in the order of FG-NET (XM2VTS): point ${pupil}, a pupil, lies outside of the eye ${first} to ${first + 3}`;
  }
  const eyes = [points[31]!, points[36]!].sort((a, b) => a[0] - b[0]);
  const corners = [points[48]!, points[54]!].sort((a, b) => a[0] - b[0]);
  return [eyes[0]!, eyes[1]!, points[67]!, corners[0]!, corners[1]!];
}

/** Why points cannot be those of an upright face in a picture. */
export function faultOf([left, right, nose, mouthLeft, mouthRight]: Five): string | undefined {
  const all = [left, right, nose, mouthLeft, mouthRight];
  if (!all.flat().every(Number.isFinite)) return 'its landmarks are not all numbers';
  if (all.every(([x, y]) => x === 0 && y === 0)) return 'its landmarks are all zero';
  if (all.some(([x, y]) => x < 0 || y < 0)) return 'its landmarks lie outside of the picture';
  const across = minus(right, left);
  const down = minus(mean([mouthLeft, mouthRight]), mean([left, right]));
  const eyes = Math.hypot(...across);
  if (!(eyes >= kLeastPixels)) return `its eyes are ${eyes.toPrecision(2)} pixels apart, and ${kLeastPixels} are needed`;
  if (across[0] <= 0) return 'its left eye lies to the right of its right eye';
  const height = (across[0] * down[1] - across[1] * down[0]) / eyes ** 2;
  if (height <= 0 || down[1] <= 0) return 'its mouth lies above its eyes';
  if (height < kLeastHeight || height > kMostHeight)
    return `its mouth lies ${height.toPrecision(2)} distances of the eyes below them, which no face has`;
  const mouth = Math.hypot(...minus(mouthRight, mouthLeft)) / eyes;
  return mouth < kLeastMouth ? `its mouth is ${mouth.toPrecision(2)} distances of the eyes wide, which no face has` : undefined;
}

/** Middle and distance of the eyes. */
export function eyesOf([left, right]: Five): { middle: Point; distance: number } {
  return { middle: mean([left, right]), distance: Math.hypot(...minus(right, left)) };
}

const minus = ([x, y]: Point, [a, b]: Point): [number, number] => [x - a, y - b];

/** Whether a point lies in a polygon, or no further than `slack` from its edges. */
function isWithin([x, y]: Point, corners: readonly Point[], slack: number): boolean {
  let isInside = false;
  let nearest = Number.POSITIVE_INFINITY;
  for (const [i, [ax, ay]] of corners.entries()) {
    const [bx, by] = corners[(i + 1) % corners.length]!;
    if (ay > y !== by > y && x < ax + ((y - ay) * (bx - ax)) / (by - ay)) isInside = !isInside;
    const [dx, dy] = [bx - ax, by - ay];
    const along = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
    nearest = Math.min(nearest, Math.hypot(x - ax - along * dx, y - ay - along * dy));
  }
  return isInside || nearest <= slack;
}
