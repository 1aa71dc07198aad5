// What is known of a picture that is to be packed, before it is looked at.
import type { Point } from './align.js';

/** What is known of a picture. */
export interface Described {
  subject: string;
  attribute: string;
  alpha: number;
  landmarks?: readonly Point[] | undefined;
  /** When it was taken, such as a day of dialysis. */
  session?: string | undefined;
  /** Part of the session, such as pre or post. */
  phase?: string | undefined;
}

/** Names end up in the head of a set. */
const kNameLetters = 200;

/** A description, or what is wrong with it. One name is one person, however its accents are written. */
export function described(
  subject: string,
  attribute: string,
  alpha: number,
  { landmarks, session = '', phase = '' }: Omit<Described, 'subject' | 'attribute' | 'alpha'> = {},
): Described | string {
  if (subject === '') return 'it has no subject';
  if ([subject, attribute, session, phase].some((name) => name.length > kNameLetters)) return `a name of more than ${kNameLetters} letters`;
  const picture: Described = { subject: subject.normalize('NFC'), attribute: attribute.normalize('NFC'), alpha };
  if (landmarks) picture.landmarks = landmarks;
  if (session !== '') picture.session = session.normalize('NFC');
  if (phase !== '') picture.phase = phase.normalize('NFC');
  return picture;
}

/** A decimal number that a float holds. */
export function numberOf(text: string): number | undefined {
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text.trim())) return undefined;
  const value = Math.fround(Number(text));
  return Number.isFinite(value) ? value + 0 : undefined; // -0 and 0 are one alpha
}

/** A float as it was written: 0.1, not 0.10000000149011612. */
export function floatText(float: number): string {
  for (let digits = 6; digits < 9; digits++) {
    const text = String(Number(float.toPrecision(digits)));
    if (Math.fround(Number(text)) === float) return text;
  }
  return String(float);
}
