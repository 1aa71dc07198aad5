// Small copies of the data sets of faces that people bring, written by the tests themselves: drawn faces in larger pictures, landmarks where those
// faces are, MATLAB files.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import type { Point } from '../lib/data/align.ts';
import type { PackOptions } from '../lib/data/pack.ts';
import { native } from '../lib/native.ts';
import { temporaryFolder } from './support.ts';

/** Writes a file with the folders that it lies in. */
export function put(file: string, content: string | Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}

/** To pack something into a new folder: 32 pixels, as they are. */
export const packOptions = (from: string, more: Partial<PackOptions> = {}): PackOptions => ({
  from,
  out: join(temporaryFolder(), 'set'),
  size: 32,
  quality: 0,
  ...more,
});

/** Of a picture: pixels; the drawn face lies in it at this place. */
export const kWidth = 192;
export const kHeight = 144;
const kFace = 96;
const kLeft = 61;
const kTop = 22;

/** A face of an identity as it is drawn: RGB bytes, 96 x 96 pixels. */
export function drawnFace(subject: number, alpha = 0): Promise<Uint8Array> {
  const one = Uint32Array.of(subject);
  const shots = { seed: 1n, subject: one, photo: one, attribute: Int32Array.of(2), alpha: Float32Array.of(alpha) };
  return native().module.drawFaces({ ...shots, domain: 0, size: kFace }, 1);
}

/** A face of an identity in the middle of a gray picture. */
export async function photo(subject: number, alpha = 0): Promise<Buffer> {
  const face = await drawnFace(subject, alpha);
  const layer = { input: Buffer.from(face), raw: { width: kFace, height: kFace, channels: 3 as const }, left: kLeft, top: kTop };
  const canvas = sharp({ create: { width: kWidth, height: kHeight, channels: 3, background: '#445' } });
  return canvas.composite([layer]).jpeg({ quality: 95 }).toBuffer();
}

/** Where FFHQ has eyes, nose and mouth in the square that is the drawn face; by these landmarks pack cuts out just that square. */
export function points(left = kLeft, top = kTop, edge = kFace): [Point, Point, Point, Point, Point] {
  const at = (x: number, y: number): Point => [left + edge * (0.5 + x), top + edge * (0.5 - 1 / 36 + y)];
  return [at(-1 / 8, 0), at(1 / 8, 0), at(0, 0.16), at(-0.09, 1 / 3.6), at(0.09, 1 / 3.6)];
}

const ring = ([x, y]: Point, count: number, radius: number): Point[] =>
  Array.from({ length: count }, (_, i) => {
    const turn = Math.PI + (2 * Math.PI * i) / count;
    return [x + radius * Math.cos(turn), y + radius * 0.5 * Math.sin(turn)];
  });

/** The 66 points of a tracker (the first of iBUG's 68) of a face. */
export function ibug([left, right, nose, mouthLeft, mouthRight]: readonly Point[] = points()): Point[] {
  const face = Array.from({ length: 66 }, (): Point => nose!);
  face.splice(36, 12, ...ring(left!, 6, 5), ...ring(right!, 6, 5));
  face.splice(48, 7, mouthLeft!, nose!, nose!, nose!, nose!, nose!, mouthRight!);
  return face;
}

/** The 68 points of XM2VTS, as FG-NET has them. */
export function xm2vts([left, right, nose, mouthLeft, mouthRight]: readonly Point[] = points()): Point[] {
  const face = Array.from({ length: 68 }, (): Point => nose!);
  face.splice(27, 10, ...ring(left!, 4, 5), left!, ...ring(right!, 4, 5), right!);
  face.splice(48, 7, mouthLeft!, nose!, nose!, nose!, nose!, nose!, mouthRight!);
  return face;
}

export const ptsText = (all: readonly Point[], end = '\n'): string =>
  ['version: 1', `n_points: ${all.length}`, '{', ...all.map(([x, y]) => `${x} ${y}`), '}', ''].join(end);

/** How numbers lie in a MATLAB file. */
export interface MatStyle {
  isBig?: boolean;
  isCompressed?: boolean;
  /** Type of the numbers: 9 double, 7 single, 3 of 16 bits. */
  type?: 9 | 7 | 3;
  /** Class of the matrix: 6 double, 7 single, 4 text. */
  kind?: number;
}

/** A MATLAB file of level 5 with one matrix, its numbers column by column. */
export function matFile(name: string, rows: number, columns: number, numbers: readonly number[], style: MatStyle = {}): Buffer {
  const matrix = matElement(name, rows, columns, numbers, style);
  return Buffer.concat([matHead(style), style.isCompressed ? element(15, deflateSync(matrix), style) : matrix]);
}

export function matHead({ isBig = false }: MatStyle = {}, version = 0x100): Buffer {
  const head = Buffer.alloc(128, 0x20);
  head.write('MATLAB 5.0 MAT-file, written by a test');
  if (isBig) head.writeUInt16BE(version, 124);
  else head.writeUInt16LE(version, 124);
  head.write(isBig ? 'MI' : 'IM', 126, 'latin1');
  return head;
}

export function matElement(name: string, rows: number, columns: number, numbers: readonly number[], style: MatStyle = {}): Buffer {
  const { isBig, type = 9, kind = 6 } = style;
  const words = (values: readonly number[]) => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [i, value] of values.entries()) isBig ? bytes.writeInt32BE(value, 4 * i) : bytes.writeInt32LE(value, 4 * i);
    return bytes;
  };
  const size = { 9: 8, 7: 4, 3: 2 }[type];
  const data = Buffer.alloc(size * numbers.length);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (const [i, value] of numbers.entries()) {
    if (type === 9) view.setFloat64(8 * i, value, !isBig);
    else if (type === 7) view.setFloat32(4 * i, value, !isBig);
    else view.setInt16(2 * i, value, !isBig);
  }
  const parts = [element(6, words([kind, 0]), style), element(5, words([rows, columns]), style), element(1, Buffer.from(name), style)];
  return element(14, Buffer.concat([...parts, element(type, data, style)]), style);
}

/** A tag, the bytes, and zeros to a multiple of 8; up to 4 bytes in the tag itself, as MATLAB has it. */
function element(type: number, bytes: Buffer, { isBig = false }: MatStyle): Buffer {
  const isShort = bytes.length > 0 && bytes.length <= 4;
  const tag = Buffer.alloc(isShort ? 4 : 8);
  const first = isShort ? bytes.length * 65536 + type : type;
  if (isBig) tag.writeUInt32BE(first, 0);
  else tag.writeUInt32LE(first, 0);
  if (!isShort && isBig) tag.writeUInt32BE(bytes.length, 4);
  else if (!isShort) tag.writeUInt32LE(bytes.length, 4);
  const whole = Buffer.concat([tag, bytes]);
  return type === 15 ? whole : Buffer.concat([whole, Buffer.alloc((8 - (whole.length % 8)) % 8)]);
}

/** Landmarks as DISFA has them: `pts`, 66 x 2. */
export const landmarkFile = (all: readonly Point[] = ibug(), style: MatStyle = {}): Buffer =>
  matFile('pts', all.length, 2, [...all.map(([x]) => x), ...all.map(([, y]) => y)], style);
