// What a pickle is made of once it is read: plain values and containers of our own, so that nothing of a file becomes an object with code or a
// prototype. What else a pickle may ask for is made by the calls of a table (globals.ts, numpy.ts, torchfile.ts).
import { type ComFaceError, show } from '../errors.js';

/** What a pickle can hold. Lists are arrays. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleTuple
  | PickleDict
  | PickleSet
  | PickleGlobal
  | PickleObject;

export class PickleTuple {
  readonly items: readonly PickleValue[];

  constructor(items: readonly PickleValue[]) {
    this.items = items;
  }
}

/** A set or frozenset, in the order of the file; an item may stand there twice. */
export class PickleSet {
  readonly items: PickleValue[];

  constructor(items: PickleValue[] = []) {
    this.items = items;
  }
}

/** A dict of any kind, in its order. Its map is made with the first entry, so that a byte that asks for a dict costs little. */
export class PickleDict {
  #map: Map<PickleValue, PickleValue> | undefined;

  set(key: PickleValue, value: PickleValue): void {
    this.#map ??= new Map();
    this.#map.set(key, value);
  }

  get(key: PickleValue): PickleValue | undefined {
    return this.#map?.get(key);
  }

  get size(): number {
    return this.#map?.size ?? 0;
  }

  *[Symbol.iterator](): IterableIterator<[PickleValue, PickleValue]> {
    if (this.#map) yield* this.#map;
  }
}

/** Makes a value out of the arguments that a pickle calls a name with. */
export type PickleCall = (args: readonly PickleValue[], site: PickleSite) => PickleValue;

/** A name that the table allows; `call` is missing where it may be named and not called. */
export class PickleGlobal {
  readonly name: string;
  readonly call: PickleCall | null;

  constructor(name: string, call: PickleCall | null) {
    this.name = name;
    this.call = call;
  }
}

/** What a {@link PickleCall} may make beyond plain values. */
export abstract class PickleObject {
  /** In words, for messages. */
  abstract readonly kind: string;

  /** Takes the state that a pickle gives it afterwards. */
  build(_state: PickleValue, site: PickleSite): void {
    throw site.fault(`no state for ${this.kind}`, 'one');
  }
}

/** Where in a pickle a call stands: makes its errors and keeps its accounts. */
export interface PickleSite {
  /** The file, for messages. */
  readonly name: string;
  /** CORRUPT_FILE: nobody would have written this. */
  fault(rule: string, found: string): ComFaceError;
  /** INVALID_INPUT: sound, and not read here. */
  refuse(rule: string, found: string, hint: string): ComFaceError;
  /** Counts bytes that a call copies or reads again: all calls together may take twice what the pickle has, or naming one text often would fill the memory. */
  spend(bytes: number): void;
}

/** Of a value, for messages. */
export function kindOf(value: PickleValue | undefined): string {
  if (value === undefined || value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value !== 'object') return show(value);
  if (value instanceof PickleGlobal) return `the name \`${value.name}\``;
  if (value instanceof PickleObject) return value.kind;
  if (value instanceof PickleTuple) return `a tuple of ${value.items.length}`;
  if (value instanceof PickleDict) return `a dict of ${value.size}`;
  if (value instanceof PickleSet) return `a set of ${value.items.length}`;
  return value instanceof Uint8Array ? `${value.length} bytes` : `a list of ${value.length}`;
}
