// Hostile values and calls made of them, each a pure function of a number: call 4711 is the same call in every process.
import { philox } from '../../../lib/data/random.ts';

/** A stream of draws, keyed by (seed, index). */
export class Draws {
  #count = 0;
  readonly #seed: bigint;
  readonly #index: number;

  constructor(seed: number, index: number) {
    this.#seed = BigInt(seed);
    this.#index = index;
  }
  below(limit: number): number {
    return philox(this.#seed, 99, this.#index, this.#count++, 0)[0] % limit;
  }
  chance(share: number): boolean {
    return this.below(1_000_000) < share * 1_000_000;
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** What our own traps throw: the one error that is not ComFace's and may come out of a call, as the very same object. */
export class Trap extends Error {}

/** One call under way: what its hostile values threw, and what they may do to the objects of the call while they are read. */
export interface Scene {
  thrown: unknown[];
  /** A proxy that was revoked, or code that V8 itself refuses, is part of the call. */
  hasForeignCode: boolean;
  /** Disposes, detaches, collects, calls again. */
  effects: (() => unknown)[];
}

type Make = (scene: Scene) => unknown;

function trap(scene: Scene): never {
  const error = new Trap('trap');
  scene.thrown.push(error);
  throw error;
}

const shared = (length: number) => new SharedArrayBuffer(length);
const resizable = (length: number, most: number) =>
  new (ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer & { resize(length: number): void })(length, {
    maxByteLength: most,
  });

function detached<T extends ArrayBufferView>(view: T): T {
  structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
  return view;
}

function shrunk(): Float32Array {
  const buffer = resizable(64, 128);
  const view = new Float32Array(buffer, 16, 8);
  buffer.resize(20);
  return view;
}

const everyTrap = (scene: Scene): ProxyHandler<object> =>
  new Proxy({} as ProxyHandler<object>, { get: () => () => trap(scene), has: () => true });

function revoked(scene: Scene): object {
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  scene.hasForeignCode = true;
  return proxy;
}

/** Gives another answer each time it is asked. */
function moody(answers: unknown[]): object {
  let asked = 0;
  return new Proxy({}, { get: () => answers[asked++ % answers.length] });
}

function endless(): unknown[] {
  const list: unknown[] = [];
  const get = () => {
    list.push(list.length);
    return 'a';
  };
  return Object.defineProperty(list, 0, { enumerable: true, configurable: true, get });
}

const constant = (...values: unknown[]): [string, Make][] =>
  values.map((value) => [typeof value === 'string' ? JSON.stringify(value.slice(0, 20)) : String(value), () => value]);

/** Name and maker of every hostile value. Numbers are out of range or tiny: one that is legal and merely large is not this test's. */
export const hostileValues: [string, Make][] = [
  ...constant(undefined, null, true, false, '', 'x', '\0', 'x\0y', '\ud800', 'ünï', 'x'.repeat(1e5), '__proto__', 'constructor', '1'),
  ...constant(0, -0, 1, 2, 3, 16, -1, 0.5, 1.0000001, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
  ...constant(
    5e-324,
    1e308,
    -1e308,
    2 ** 31,
    -(2 ** 31),
    2 ** 53,
    -(2 ** 53),
    0n,
    -1n,
    2n ** 64n,
    2n ** 200n,
    Symbol('s'),
    Symbol.iterator,
  ),
  ['huge string', () => 'x'.repeat(1 << 20)],
  ['arrow', () => () => 1],
  ['class', () => class {}],
  ['async function', () => async () => 1],
  ['function that throws', (scene) => () => trap(scene)],
  ['{}', () => ({})],
  ['null object', () => Object.create(null)],
  ['frozen', () => Object.freeze({ size: 1 })],
  ['__proto__ key', () => JSON.parse('{"__proto__": {"size": 1, "seed": 1}, "x": 1}')],
  ['[]', () => []],
  ['[1, 2]', () => [1, 2]],
  ['["a"]', () => ['a']],
  ['nested', () => [[[[]]]]],
  ['sparse', () => new Array(10)],
  ['huge sparse', () => new Array(2 ** 32 - 1)],
  ['late hole', () => Object.assign(new Array(1e4), { 0: 'a' })],
  ['list that grows while read', endless],
  ['list of getters', (scene) => Object.defineProperty(['a', 'b'], 1, { get: () => trap(scene) })],
  ['list with a lying length', () => new Proxy(['a'], { get: (list, key) => (key === 'length' ? 2 ** 32 - 1 : Reflect.get(list, key)) })],
  ['object with a length', () => ({ length: 2 ** 53, 0: 'a' })],
  ['date', () => new Date(Number.NaN)],
  ['regex', () => /x/g],
  ['map', () => new Map([['a', 1]])],
  ['set', () => new Set([1])],
  ['promise', () => Promise.resolve(1)],
  ['boxed', () => Object(1)],
  ['boxed text', () => Object('x')],
  ['boxed bigint', () => Object(1n)],
  // biome-ignore lint/suspicious/noThenProperty: something to mistake for a promise.
  ['thenable', () => ({ then: (done: (value: unknown) => void) => done(1) })],
  ['trap getter', (scene) => new Proxy({}, { get: () => trap(scene) })],
  ['trap everything', (scene) => new Proxy({}, everyTrap(scene))],
  ['trap function', (scene) => new Proxy(() => 1, everyTrap(scene))],
  ['revoked', revoked],
  ['moody', () => moody([1, 'x', null, 2n, {}])],
  ['valueOf trap', (scene) => ({ valueOf: () => trap(scene), toString: () => trap(scene), toJSON: () => trap(scene) })],
  ['throws undefined', () => Object.defineProperty({}, 'size', { enumerable: true, get: () => void 0 })],
  ['ArrayBuffer', () => new ArrayBuffer(8)],
  ['SharedArrayBuffer', () => shared(8)],
  ['DataView', () => new DataView(new ArrayBuffer(8))],
  ['detached floats', () => detached(new Float32Array(4))],
  ['detached bytes', () => detached(new Uint8Array(4))],
  ['shared floats', () => new Float32Array(shared(16))],
  ['shared words', () => new Uint32Array(shared(16))],
  ['shared bytes', () => new Uint8Array(shared(16))],
  ['length-tracking words', () => new Uint32Array(resizable(8, 64))],
  ['shrunk floats', shrunk],
  ['no floats', () => new Float32Array(0)],
  ['NaN floats', () => new Float32Array(8).fill(Number.NaN)],
  ['doubles', () => new Float64Array(3)],
  ['big words', () => new BigUint64Array(2)],
  ['clamped', () => new Uint8ClampedArray(5)],
  ['largest words', () => new Uint32Array([2 ** 32 - 1, 0, 1])],
  ['unaligned bytes', () => new Uint8Array(new ArrayBuffer(16), 3, 7)],
  ['buffer', () => Buffer.from('abc')],
];

/** The same numbers in memory that is not what it should be. */
function otherMemory(draws: Draws, view: ArrayBufferView & ArrayLike<number>): [string, unknown] {
  type Kind = new (from: unknown, offset?: number, length?: number) => ArrayBufferView & { set(from: unknown): void; length: number };
  const Kind = view.constructor as unknown as Kind;
  const copy = (buffer: ArrayBufferLike, ...place: number[]) => {
    const array = new Kind(buffer, ...place);
    array.set(view);
    return array;
  };
  const size = view.byteLength;
  const makers: [string, () => unknown][] = [
    ['detached', () => detached(copy(new ArrayBuffer(size)))],
    ['shared', () => copy(shared(size))],
    ['resizable', () => copy(resizable(size, size * 2 + 8))],
    ['one longer', () => new Kind(view.length + 1)],
    ['one shorter', () => new Kind(Math.max(0, view.length - 1))],
    ['offset', () => copy(new ArrayBuffer(size + 16), 8, view.length)],
    ['doubles', () => Float64Array.from(view)],
    ['plain list', () => Array.from(view)],
    ['proxy', () => new Proxy(view, {})],
    ['of another prototype', () => Object.setPrototypeOf(copy(new ArrayBuffer(size)), null)],
    ['of a lying length', () => Object.defineProperty(copy(new ArrayBuffer(size)), 'length', { value: 2 ** 31 })],
  ];
  const [name, make] = draws.of(makers);
  return [`${name} memory`, make()];
}

type Place = { owner: Record<PropertyKey, unknown>; key: string; path: string };
const isPlain = (value: unknown): value is Record<PropertyKey, unknown> =>
  typeof value === 'object' && value !== null && (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype);

function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (isPlain(value)) return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copyOf(inner)]));
  if (ArrayBuffer.isView(value) && 'slice' in value) return (value as Uint8Array).slice();
  return value;
}

function placesOf(owner: Record<PropertyKey, unknown>, path: string): Place[] {
  return Object.keys(owner).flatMap((key) => {
    const inner = owner[key];
    const place = { owner, key, path: `${path}[${key}]` };
    return isPlain(inner) ? [place, ...placesOf(inner, place.path)] : [place];
  });
}

function change(draws: Draws, scene: Scene, { owner, key, path }: Place): string {
  const old = owner[key];
  const [name, make] = draws.of(hostileValues);
  const set = (value: unknown) => Object.defineProperty(owner, key, { value, enumerable: true, configurable: true, writable: true });
  const get = (answer: () => unknown) => Object.defineProperty(owner, key, { get: answer, enumerable: true, configurable: true });
  const kind = draws.below(10);
  if (kind === 0) return get(() => trap(scene)) && `${path}: a getter that throws`;
  if (kind === 1) {
    const effect = draws.of(scene.effects);
    return get(() => [effect(), old][1]) && `${path}: a getter that does ${effect.name}`;
  }
  if (kind === 2) {
    let asked = 0;
    const other = make(scene);
    return get(() => (asked++ === 0 ? old : other)) && `${path}: first right, then ${name}`;
  }
  if (kind === 3 && isPlain(old)) {
    const effect = draws.of(scene.effects);
    let left = draws.below(8);
    const seen = new Proxy(old, {
      get: (target, inner) => {
        if (left-- === 0) effect();
        return Reflect.get(target, inner);
      },
    });
    return set(seen) && `${path}: a proxy that does ${effect.name}`;
  }
  if (kind <= 4 && ArrayBuffer.isView(old)) {
    const [memory, value] = otherMemory(draws, old as Uint8Array);
    return set(value) && `${path}: ${memory}`;
  }
  if (kind === 5) return Reflect.deleteProperty(owner, key) ? `${path}: none` : '';
  return set(make(scene)) && `${path}: ${name}`;
}

/** Takes the arguments of a right call and spoils one to three places; says what it did. */
export function spoil(draws: Draws, scene: Scene, right: readonly unknown[]): { args: unknown[]; notes: string[] } {
  const args = copyOf(right) as unknown[];
  for (const view of args.flatMap((arg) => (isPlain(arg) ? Object.values(arg) : [arg]))) {
    if (ArrayBuffer.isView(view) && view.buffer instanceof ArrayBuffer) {
      const { buffer } = view;
      scene.effects.push(function detach() {
        if (buffer.byteLength > 0) structuredClone(buffer, { transfer: [buffer] });
      });
    }
  }
  const notes: string[] = [];
  const spoiled = new Set<string>();
  const places = placesOf(args as never, ''); // before the first is spoiled: reading it is for the call to do
  // The arguments themselves as often as all that is in them.
  const top = places.filter(({ owner }) => owner === (args as never));
  const count = args.length === 0 ? 0 : [1, 1, 1, 2, 2, 3][draws.below(6)]!;
  for (let i = 0; i < count; i++) {
    const place = draws.of(draws.chance(0.5) ? top : places);
    if (spoiled.has(place.path)) continue; // to look at it again would be to read what is hostile
    spoiled.add(place.path);
    notes.push(change(draws, scene, place));
  }
  if (draws.chance(0.03)) {
    const kept = draws.below(args.length + 1);
    args.length = kept;
    notes.push(`only ${kept} arguments`);
  }
  if (draws.chance(0.03)) {
    args.push(...Array.from({ length: 3 }, () => draws.of(hostileValues)[1](scene)));
    notes.push('more arguments');
  }
  return { args, notes };
}
