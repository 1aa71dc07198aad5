// The names that pickles of NVIDIA's generators use beside those of torch and numpy. They bring the source of their classes along as text: it stays
// text. What is read is the state of a module (its parameters, buffers and modules) or of a network of TensorFlow (its named arrays).
import { bare, record } from './globals.js';
import { kindOf, type PickleCall, PickleDict, PickleObject, PickleTuple, type PickleValue } from './values.js';

/** What a module of torch keeps its tensors and modules in; missing where it has none. */
const containers = ['_parameters', '_buffers', '_modules'] as const;

/** A module of torch: its tensors and modules stand under their own names, as in a state dict. Nothing is copied, so many may share one state. */
export class ModuleValue extends PickleObject {
  readonly kind = 'a module';
  readonly #className: string;
  readonly #state: PickleDict;

  constructor(className: string, state: PickleDict) {
    super();
    this.#className = className;
    this.#state = state;
  }

  /** What it holds, each under its name. */
  *entries(): Generator<[PickleValue, PickleValue]> {
    yield ['class_name', this.#className];
    for (const [key, value] of this.#state) {
      if ((containers as readonly PickleValue[]).includes(key) && value instanceof PickleDict) yield* value;
      else yield [key, value];
    }
  }
}

/** `torch_utils.persistence`: one dict with the class's name, its source and the state. */
const persistent: PickleCall = (args, site) => {
  const [meta] = args;
  if (args.length !== 1 || !(meta instanceof PickleDict))
    throw site.fault('one dict that says what an object is', kindOf(new PickleTuple(args)));
  const [name, state] = [meta.get('class_name'), meta.get('state')];
  if (typeof name !== 'string' || !(state instanceof PickleDict))
    throw site.fault('the class and the state of an object', `${kindOf(name)} and ${kindOf(state)}`);
  for (const key of containers) {
    const held = state.get(key);
    if (held !== undefined && !(held instanceof PickleDict)) throw site.fault(`a dict for ${key} of ${name.slice(0, 80)}`, kindOf(held));
  }
  return new ModuleValue(name, state);
};

export const persistenceGlobals: ReadonlyMap<string, PickleCall | null> = new Map<string, PickleCall | null>([
  ['torch_utils.persistence._reconstruct_persistent_obj', persistent],
  ['dnnlib.util.EasyDict', bare('EasyDict', () => new PickleDict())], // a dict whose items are attributes, too
  record('dnnlib.tflib.network.Network'),
]);
