// A picture of any common format becomes a small square one: upright, sRGB, 8 bits. Decoding is sharp's (libvips), behind limits; what it
// finds wrong, even a little, is a reason not to use the picture.
import type { Metadata, Sharp, SharpOptions } from 'sharp';
import { ComFaceError, messageOf } from '../errors.js';
import { cut, edgeOf, faceSquare, type Pixels, type Point, type Square } from './align.js';

/** As the reader of pictures in files of their own has it. */
const kMostPixels = 64_000_000;
const kLeastEdge = 8;
/** Formats of photographs. Not SVG, PDF and whatever else may be built in: those are programs, or name other files. */
const kFormats: readonly string[] = ['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif'];
const kUnreadable = `it is damaged, or no picture in a format that can be read (${kFormats.join(', ')})`;
const kDamaged = 'its pixels are damaged or incomplete';
/** Behind a transparent picture. */
const kBackground = '#808080';

/** What a picture becomes. */
export interface Preparation {
  /** Edge in pixels. */
  size: number;
  /** Of JPEG, 1 to 100; 0: RGB bytes. */
  quality: number;
  /** In the upright picture. Without them its middle is taken. */
  landmarks?: readonly Point[] | undefined;
}

/** Why a picture cannot be used. */
export class UnusablePicture extends Error {}

type Open = (input: string | Uint8Array, options?: SharpOptions) => Sharp;

/** @throws ComFaceError DEVICE_UNAVAILABLE where sharp does not work. */
export async function loadSharp(): Promise<Open> {
  try {
    return (await import('sharp')).default as Open;
  } catch (cause) {
    const hint = 'Install it again with its optional packages: npm install --include=optional sharp';
    throw new ComFaceError('DEVICE_UNAVAILABLE', `The package sharp does not work here: ${messageOf(cause).split('\n')[0]}`, {
      hint,
      cause,
    });
  }
}

/**
 * Reads, turns upright, cuts and encodes a picture.
 *
 * @returns A baseline JPEG (4:2:0), or size x size x 3 bytes.
 * @param bytes Of the file.
 * @throws UnusablePicture with the reason.
 */
export async function preparePicture(bytes: Uint8Array, { size, quality, landmarks }: Preparation): Promise<Uint8Array> {
  const open = await loadSharp();
  const { width, height } = uprightSize(await readable(open(bytes, { limitInputPixels: false }).metadata(), kUnreadable));
  const upright = open(bytes, { failOn: 'warning', limitInputPixels: kMostPixels, pages: 1 })
    .autoOrient()
    .flatten({ background: kBackground })
    .toColourspace('srgb');
  if (!landmarks) return readable(encode(upright.resize(size, size, { fit: 'cover' }), quality), kDamaged);
  const square = squareIn(landmarks, width, height);
  const { pixels, part } = await readable(regionOf(upright, square, width, height, size), kDamaged);
  const rgb = cut(pixels, part, size);
  return quality === 0 ? rgb : encode(open(rgb, { raw: { width: size, height: size, channels: 3 } } as SharpOptions), quality);
}

/** A reason of our own for what libvips finds wrong: in its words the errors of threads mix, and the same picture gets others each time. */
async function readable<T>(work: Promise<T>, reason: string): Promise<T> {
  try {
    return await work;
  } catch {
    throw new UnusablePicture(reason);
  }
}

function encode(picture: Sharp, quality: number): Promise<Uint8Array> {
  return (quality === 0 ? picture.raw() : picture.jpeg({ quality, chromaSubsampling: '4:2:0', optimiseCoding: false })).toBuffer();
}

function uprightSize({ format, compression, autoOrient: { width, height } }: Metadata): { width: number; height: number } {
  if (format === 'heif' && compression !== 'av1') throw new UnusablePicture('HEIC pictures cannot be read: save them as JPEG');
  if (!kFormats.includes(format)) throw new UnusablePicture(`expected ${kFormats.join(', ')} but found ${format}`);
  if (width * height > kMostPixels) throw new UnusablePicture(`expected at most 64 megapixels but found ${width} x ${height}`);
  if (Math.min(width, height) < kLeastEdge)
    throw new UnusablePicture(`expected at least ${kLeastEdge} x ${kLeastEdge} pixels but found ${width} x ${height}`);
  return { width, height };
}

function squareIn(landmarks: readonly Point[], width: number, height: number): Square {
  const square = faceSquare(landmarks);
  if (!square) throw new UnusablePicture('its landmarks are all one point');
  const [x, y] = square.center;
  if (!(x >= 0 && x <= width && y >= 0 && y <= height))
    throw new UnusablePicture(`its landmarks lie outside of its ${width} x ${height} pixels`);
  const edge = edgeOf(square);
  if (!(edge >= kLeastEdge && edge <= 4 * Math.max(width, height)))
    throw new UnusablePicture(`its landmarks make a face of ${edge.toPrecision(3)} pixels in a picture of ${width} x ${height}`);
  return square;
}

/** The part of a picture that a square needs, no more than twice as fine as the result, and the square in it. */
async function regionOf(
  upright: Sharp,
  { center, right }: Square,
  width: number,
  height: number,
  size: number,
): Promise<{ pixels: Pixels; part: Square }> {
  const reach = Math.abs(right[0]) + Math.abs(right[1]) + 2;
  const [left, top] = [Math.max(0, Math.floor(center[0] - reach)), Math.max(0, Math.floor(center[1] - reach))];
  const [wide, high] = [Math.min(width, Math.ceil(center[0] + reach)) - left, Math.min(height, Math.ceil(center[1] + reach)) - top];
  const shrink = Math.min(1, (2 * size) / edgeOf({ center, right }));
  const [toWide, toHigh] = [Math.max(1, Math.round(wide * shrink)), Math.max(1, Math.round(high * shrink))];
  const { data, info } = await upright
    .extract({ left, top, width: wide, height: high })
    .resize(toWide, toHigh, { fit: 'fill' })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const [scaleX, scaleY] = [info.width / wide, info.height / high];
  return {
    pixels: { width: info.width, height: info.height, data },
    part: { center: [(center[0] - left) * scaleX, (center[1] - top) * scaleY], right: [right[0] * shrink, right[1] * shrink] },
  };
}
