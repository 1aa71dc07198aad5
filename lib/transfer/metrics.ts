// Mean absolute error, Pearson correlation and accuracy of direction (section 4.3 of the ComFace paper).
// All three refuse numbers that are not finite: a mean over folds must not hide a method that broke.
import { ComFaceError, invalid } from '../errors.js';

/**
 * Mean absolute error, in the unit of the target.
 * @throws INVALID_INPUT for empty or unequal lengths, NOT_FINITE for NaN or infinity.
 */
export function mae(prediction: ArrayLike<number>, truth: ArrayLike<number>): number {
  check(prediction, truth);
  let sum = 0;
  for (let i = 0; i < truth.length; i++) sum += Math.abs(prediction[i]! - truth[i]!);
  return sum / truth.length;
}

/**
 * Pearson correlation coefficient in [-1, 1]. It is 0 where one side is constant: the quotient is 0 / 0 there, but an answer that never varies
 * says nothing about which change is larger, and 0 is what every answer without information scores on average.
 * @throws INVALID_INPUT for empty or unequal lengths, NOT_FINITE for NaN or infinity.
 */
export function pearson(prediction: ArrayLike<number>, truth: ArrayLike<number>): number {
  check(prediction, truth);
  // Compared value by value: the deviations of a constant from its rounded mean are small but not zero, and would correlate.
  if (constant(prediction) || constant(truth)) return 0;
  const meanP = mean(prediction);
  const meanT = mean(truth);
  let pp = 0;
  let tt = 0;
  let pt = 0;
  for (let i = 0; i < truth.length; i++) {
    const p = prediction[i]! - meanP;
    const t = truth[i]! - meanT;
    pp += p * p;
    tt += t * t;
    pt += p * t;
  }
  const scale = Math.sqrt(pp) * Math.sqrt(tt);
  return scale > 0 ? Math.max(-1, Math.min(1, pt / scale)) : 0;
}

/**
 * Share of pairs in [0, 1] whose direction of change is right. Pairs without a change have no direction and do not count; an answer of exactly
 * zero is wrong. NaN when no pair changes.
 * @throws INVALID_INPUT for empty or unequal lengths, NOT_FINITE for NaN or infinity.
 */
export function signAccuracy(prediction: ArrayLike<number>, truth: ArrayLike<number>): number {
  check(prediction, truth);
  let right = 0;
  let counted = 0;
  for (let i = 0; i < truth.length; i++) {
    if (truth[i] === 0) continue;
    counted++;
    if (Math.sign(prediction[i]!) === Math.sign(truth[i]!)) right++;
  }
  return right / counted;
}

/** Arithmetic mean; NaN of nothing. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

function constant(values: ArrayLike<number>): boolean {
  for (let i = 1; i < values.length; i++) if (values[i] !== values[0]) return false;
  return true;
}

function check(prediction: ArrayLike<number>, truth: ArrayLike<number>): void {
  if (truth.length === 0) throw invalid('truth', 'at least one value', '0 values');
  if (prediction.length !== truth.length) throw invalid('prediction', `${truth.length} values`, `${prediction.length} values`);
  for (let i = 0; i < truth.length; i++) {
    if (Number.isFinite(prediction[i]) && Number.isFinite(truth[i])) continue;
    const [name, value] = Number.isFinite(truth[i]) ? ['prediction', prediction[i]] : ['truth', truth[i]];
    throw new ComFaceError('NOT_FINITE', `Expected a finite number for \`${name}[${i}]\` but received ${value}`, {
      hint: 'Check that the weights that gave these features are finite (train with a lower learning rate if they are not).',
    });
  }
}
