// Checks of what a caller passes. A list comes back as a copy that was read once: what was checked is what is used, whatever its getters do.
import { invalid } from './errors.js';
import { didYouMean } from './nearest.js';

/** An object of options. */
export function checkObject(name: string, value: unknown): asserts value is object {
  if (typeof value !== 'object' || value === null) throw invalid(name, 'an object', value, 'Pass an object of options.');
}

/** A path or name: not empty, and without NUL, where it would end for the system. */
export function checkText(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string' || value === '' || value.includes('\0'))
    throw invalid(name, 'a text that is not empty', value, 'Give a path or a name.');
}

export function checkNumber(name: string, value: unknown, low: number, high: number): asserts value is number {
  const rule = `a number from ${low} to ${high}`;
  if (!(typeof value === 'number' && value >= low && value <= high)) throw invalid(name, rule, value, `Choose ${rule}.`);
}

export function checkInteger(name: string, value: unknown, low: number, high: number): asserts value is number {
  const rule = `an integer from ${low} to ${high}`;
  if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) throw invalid(name, rule, value, `Choose ${rule}.`);
}

export function checkOneOf<T extends string>(name: string, value: unknown, names: readonly T[]): asserts value is T {
  const rule = `one of ${names.join(', ')}`;
  if (!(names as readonly unknown[]).includes(value)) throw invalid(name, rule, value, `Choose ${rule}.${didYouMean(value, names)}`);
}

function copyOf<T>(name: string, value: unknown, check: (name: string, element: unknown) => asserts element is T): T[] {
  if (!Array.isArray(value)) throw invalid(name, 'a list', value, 'Pass an array.');
  const copy: T[] = [];
  const count = value.length; // a sparse one ends at its first hole, whatever it claims
  for (let i = 0; i < count; i++) {
    const element: unknown = value[i];
    check(`${name}[${i}]`, element);
    copy.push(element);
  }
  return copy;
}

export function textsOf(name: string, value: unknown): string[] {
  return copyOf<string>(name, value, checkText);
}

export function numbersOf(name: string, value: unknown, low: number, high: number): number[] {
  return copyOf<number>(name, value, (place, element) => checkNumber(place, element, low, high));
}

/** The numbers of a Float32Array, copied; none of what is no such array: an array may lie about its length, a proxy is an instance and no array. */
export function floatsOf(value: unknown): Float32Array {
  try {
    return value instanceof Float32Array && ArrayBuffer.isView(value) ? new Float32Array(value) : new Float32Array();
  } catch {
    return new Float32Array(); // its memory went elsewhere
  }
}

/** An AbortSignal of any realm, or none. */
export function checkSignal(value: unknown): asserts value is AbortSignal | undefined {
  if (value === undefined) return;
  const { aborted, throwIfAborted } = (typeof value === 'object' && value !== null ? value : {}) as Partial<AbortSignal>;
  if (typeof aborted !== 'boolean' || typeof throwIfAborted !== 'function')
    throw invalid('signal', 'an AbortSignal', value, 'Pass the signal of an AbortController.');
}

export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw invalid(name, 'a function', value, 'Pass a function, or leave it out.');
}
