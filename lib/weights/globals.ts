// The names that pickles of weights may use beside those of torch and numpy: containers, and records whose attributes are kept and whose code is not.
import { invalid } from '../errors.js';
import type { StoredTensor } from './stored.js';
import { kindOf, type PickleCall, PickleDict, PickleObject, PickleSet, type PickleSite, PickleTuple, type PickleValue } from './values.js';

/** A tensor or array. */
export class TensorValue extends PickleObject {
  kind = 'a tensor';
  /** Missing in an array of other things than numbers. */
  tensor: StoredTensor | undefined;

  constructor(tensor?: StoredTensor) {
    super();
    this.tensor = tensor;
  }

  /** A tensor's attributes in Python; its numbers are complete without them. */
  override build(_state: PickleValue, _site: PickleSite): void {}
}

/** Attributes by name, such as the options that a training was started with. */
export class PickleRecord extends PickleObject {
  readonly kind: string;
  attributes = new PickleDict();

  constructor(name: string) {
    super();
    this.kind = `a ${name}`;
  }

  override build(state: PickleValue, site: PickleSite): void {
    if (!(state instanceof PickleDict)) throw site.fault(`a dict of attributes for ${this.kind}`, kindOf(state));
    this.attributes = state;
  }
}

/** A call that takes no arguments. */
export const bare =
  (name: string, make: () => PickleValue): PickleCall =>
  (args, site) => {
    if (args.length > 0) throw site.fault(`no arguments of \`${name}\``, `${args.length}`);
    return make();
  };

/** Of a list or tuple: a copy that is paid for. */
function itemsOf(value: PickleValue | undefined, site: PickleSite): PickleValue[] {
  const items = value === undefined ? [] : value instanceof PickleTuple ? value.items : value instanceof PickleSet ? value.items : value;
  if (!Array.isArray(items)) throw site.fault('a list', kindOf(value));
  site.spend(items.length);
  return [...items];
}

/** A dict out of pairs, or the dict itself. */
function dictOf(value: PickleValue | undefined, site: PickleSite): PickleDict {
  if (value instanceof PickleDict) return value;
  const dict = new PickleDict();
  for (const pair of itemsOf(value, site)) {
    const items = pair instanceof PickleTuple ? pair.items : pair;
    if (!Array.isArray(items) || items.length !== 2) throw site.fault('pairs of key and value', kindOf(pair));
    dict.set(items[0]!, items[1]!);
  }
  return dict;
}

/** How Python 3 writes bytes, and numpy with them, in protocols 0 to 2: as the text that they are in Latin-1. */
const encode: PickleCall = ([text, encoding], site) => {
  if (typeof text !== 'string' || (encoding !== 'latin1' && encoding !== 'latin-1')) {
    throw site.fault('a text and "latin1"', `${kindOf(text)} and ${kindOf(encoding)}`);
  }
  site.spend(text.length);
  const wide = /[\u0100-\uffff]/.exec(text);
  if (wide) throw site.fault('characters of Latin-1', `U+${wide[0].charCodeAt(0).toString(16).padStart(4, '0')}`);
  return Buffer.from(text, 'latin1');
};

const bytearray: PickleCall = (args, site) => {
  const [bytes, ...more] = args;
  if (bytes === undefined) return new Uint8Array();
  return bytes instanceof Uint8Array && more.length === 0 ? bytes : encode(args, site);
};

const path: PickleCall = (parts, site) => {
  if (!parts.every((part) => typeof part === 'string')) throw site.fault('texts as parts of a path', kindOf(new PickleTuple(parts)));
  site.spend(parts.reduce((sum, part) => sum + part.length, 0));
  return parts.join('/').replace(/^\/\//, '/');
};

/** A name that stands for attributes. */
export const record = (name: string): [string, PickleCall] => [name, bare(name, () => new PickleRecord(name))];
const named = (name: string): [string, null] => [name, null];

export const plainGlobals: ReadonlyMap<string, PickleCall | null> = new Map<string, PickleCall | null>([
  ['collections.OrderedDict', ([pairs], site) => dictOf(pairs, site)],
  ['collections.defaultdict', ([_factory, pairs], site) => dictOf(pairs, site)],
  ['collections.Counter', ([counts], site) => dictOf(counts, site)],
  ['builtins.dict', bare('dict', () => new PickleDict())],
  ['builtins.set', ([items], site) => new PickleSet(itemsOf(items, site))],
  ['builtins.frozenset', ([items], site) => new PickleSet(itemsOf(items, site))],
  ['builtins.bytearray', bytearray],
  ['builtins.bytes', bare('bytes', () => new Uint8Array())], // how Python 3 writes none of them in protocols 0 to 2
  ['_codecs.encode', encode],
  ['pathlib.PosixPath', path],
  ['pathlib.WindowsPath', path],
  ['pathlib._local.PosixPath', path],
  record('argparse.Namespace'),
  record('types.SimpleNamespace'),
  ...['bool', 'int', 'float', 'complex', 'str', 'list', 'tuple', 'object'].map((name) => named(`builtins.${name}`)),
]);

/** One table out of several. */
export function joined(...tables: ReadonlyMap<string, PickleCall | null>[]): Map<string, PickleCall | null> {
  const all = new Map<string, PickleCall | null>();
  for (const table of tables) {
    for (const [name, call] of table) {
      if (all.has(name)) throw invalid('tables', 'each name once', name);
      all.set(name, call);
    }
  }
  return all;
}
