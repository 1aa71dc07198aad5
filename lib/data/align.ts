// Where a face lies in a picture, from its landmarks: the square that FFHQ cuts out, so that real faces lie as a generator's do.

/** x to the right, y down, in pixels of the upright picture; (0, 0) is its corner. */
export type Point = readonly [x: number, y: number];

/** A square turned by any angle. */
export interface Square {
  center: Point;
  /** From the center to the middle of the right edge; the one to the lower edge is this turned by 90 degrees. */
  right: Point;
}

/** Schemes that are known: 5 (left and right eye, nose, left and right corner of the mouth, as in the picture), and 66 or 68 of iBUG. */
export const pointCounts: readonly number[] = [5, 66, 68];

/** Edge of the square in pixels. */
export const edgeOf = ({ right: [x, y] }: Square): number => 2 * Math.hypot(x, y);

/**
 * The square of FFHQ (Karras et al., arXiv 1812.04948, appendix; NVlabs/ffhq-dataset): as wide as four times the distance of the eyes or 3.6
 * times that from eyes to mouth, whichever is more, upright with the face.
 *
 * @returns undefined where the eyes and the mouth are one point.
 */
export function faceSquare(landmarks: readonly Point[]): Square | undefined {
  const isFive = landmarks.length === 5;
  const leftEye = isFive ? landmarks[0]! : mean(landmarks.slice(36, 42));
  const rightEye = isFive ? landmarks[1]! : mean(landmarks.slice(42, 48));
  const mouth = isFive ? mean([landmarks[3]!, landmarks[4]!]) : mean([landmarks[48]!, landmarks[54]!]);
  const eyes = mean([leftEye, rightEye]);
  const across: Point = [rightEye[0] - leftEye[0], rightEye[1] - leftEye[1]];
  const down: Point = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
  const direction: Point = [across[0] + down[1], across[1] - down[0]];
  const length = Math.hypot(...direction);
  const half = Math.max(2 * Math.hypot(...across), 1.8 * Math.hypot(...down));
  if (!(length > 0 && half > 0)) return undefined;
  return {
    center: [eyes[0] + 0.1 * down[0], eyes[1] + 0.1 * down[1]],
    right: [(direction[0] / length) * half, (direction[1] / length) * half],
  };
}

/** Middle of points. */
export function mean(points: readonly Point[]): Point {
  const sum = points.reduce<Point>(([x, y], [a, b]) => [x + a, y + b], [0, 0]);
  return [sum[0] / points.length, sum[1] / points.length];
}

/** RGB bytes, row by row. */
export interface Pixels {
  width: number;
  height: number;
  data: Uint8Array;
}

const kSamples = 2;

/** Cuts a square out of a picture: bilinear, 2 x 2 samples a pixel; what lies outside is the picture mirrored at its edges. @returns size x size x 3. */
export function cut({ width, height, data }: Pixels, { center, right: [rx, ry] }: Square, size: number): Uint8Array {
  const out = new Uint8Array(size * size * 3);
  const steps = size * kSamples;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let [r, g, b] = [0, 0, 0];
      for (let sample = 0; sample < kSamples ** 2; sample++) {
        const u = (2 * (x * kSamples + (sample % kSamples)) + 1) / steps - 1;
        const v = (2 * (y * kSamples + Math.floor(sample / kSamples)) + 1) / steps - 1;
        const [px, py] = [center[0] + u * rx - v * ry - 0.5, center[1] + u * ry + v * rx - 0.5];
        const [x0, y0] = [Math.floor(px), Math.floor(py)];
        const [wx, wy] = [px - x0, py - y0];
        for (let corner = 0; corner < 4; corner++) {
          const [dx, dy] = [corner & 1, corner >> 1];
          const weight = (dx ? wx : 1 - wx) * (dy ? wy : 1 - wy);
          const at = 3 * (mirrored(y0 + dy, height) * width + mirrored(x0 + dx, width));
          r += weight * data[at]!;
          g += weight * data[at + 1]!;
          b += weight * data[at + 2]!;
        }
      }
      const to = 3 * (y * size + x);
      out[to] = Math.round(r / kSamples ** 2);
      out[to + 1] = Math.round(g / kSamples ** 2);
      out[to + 2] = Math.round(b / kSamples ** 2);
    }
  }
  return out;
}

/** ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ... */
function mirrored(index: number, count: number): number {
  const inside = ((index % (2 * count)) + 2 * count) % (2 * count);
  return inside < count ? inside : 2 * count - 1 - inside;
}
