// Makes hostile calls [from, from + count) and reports what came out of them as one line of JSON: node arguments.js '{"from": 0, ...}'.
// Before each it writes the call's number into a file: after a crash that is where to look, and one call can be made alone.
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ComFaceError } from '../../../lib/index.ts';
import { Draws, hostileValues, type Scene, spoil } from './hostile.ts';
import { type Cast, endCast, type Fixtures, makeCast, type Target, targetsOf, uncalled } from './targets.ts';

interface Order extends Fixtures {
  from: number;
  count: number;
  seed: number;
  /** File for the number of the call under way. */
  progress: string;
}

export interface Outcome {
  calls: number;
  /** Calls that went through, were refused by us, and ended in what their own trap threw. */
  answered: number;
  refused: number;
  trapped: number;
  /** Calls that ended otherwise, the first few in words. */
  untyped: number;
  examples: string[];
  /** Exported and never called. */
  missing: string[];
  /** Calls of each target. */
  targets: Record<string, number>;
  stray: string[];
}

const order = JSON.parse(process.argv[2]!) as Order;
const folder = mkdtempSync(join(tmpdir(), 'comface-arguments-'));
process.chdir(folder); // a path that happens to be legal leads in here
const progress = openSync(order.progress, 'w');
const stray: string[] = [];
process.on('unhandledRejection', (error) => stray.push(`unhandled rejection: ${describe(error)}`));
process.on('uncaughtException', (error) => stray.push(`uncaught exception: ${describe(error)}`));

/** Calls between two casts, and at once. */
const kCast = 400;
const kTogether = 12;
const outcome: Outcome = { calls: 0, answered: 0, refused: 0, trapped: 0, untyped: 0, examples: [], missing: [], targets: {}, stray };

function describe(error: unknown): string {
  try {
    return error instanceof Error
      ? `${error.constructor.name}: ${error.message.slice(0, 200)} ${error.stack?.split('\n')[1] ?? ''}`
      : String(error);
  } catch {
    return 'an object that cannot be read';
  }
}

function choose(draws: Draws, targets: readonly Target[]): Target {
  const total = targets.reduce((sum, { weight }) => sum + weight, 0);
  let left = (draws.below(1e6) / 1e6) * total;
  for (const target of targets) {
    left -= target.weight;
    if (left < 0) return target;
  }
  return targets[0]!;
}

let disposeOfSource: (() => void) | undefined;

function effectsOn({ engine, inference, source, model, generator }: Cast): Scene['effects'] {
  disposeOfSource ??= source.dispose; // a source that is bent has none
  const ofSource = disposeOfSource;
  return [
    function disposeEngine() {
      engine.dispose();
    },
    function disposeInference() {
      inference.dispose();
    },
    function disposeSource() {
      ofSource.call(source);
    },
    function disposeModel() {
      model.dispose();
    },
    function disposeGenerator() {
      generator.dispose();
    },
    function callAgain() {
      engine.read('parameter', 'conv.weight').catch(() => undefined);
    },
    function bend() {
      Object.setPrototypeOf(source, null);
    },
    function collect() {
      globalThis.gc?.({ execution: 'sync', type: 'minor' });
    },
  ];
}

interface Made {
  name: string;
  notes: string[];
  scene: Scene;
  onWrongThis: boolean;
  run: () => unknown;
}

/** Call number `index`, ready to be made. */
function callOf(index: number, cast: Cast, targets: readonly Target[]): Made {
  const draws = new Draws(order.seed, index);
  const target = choose(draws, targets);
  const scene: Scene = { thrown: [], hasForeignCode: false, effects: effectsOn(cast) };
  const { args, notes } = spoil(draws, scene, target.args());
  let self = target.self?.();
  const onWrongThis = draws.chance(target.args().length === 0 ? 0.4 : 0.05);
  if (onWrongThis) {
    const others: [string, () => unknown][] = [
      ...hostileValues.map(([name, make]): [string, () => unknown] => [name, () => make(scene)]),
      ...Object.entries(cast).map(([name, object]): [string, () => unknown] => [name, () => object]),
      ...Object.entries(cast).map(([name, object]): [string, () => unknown] => [`heir of ${name}`, () => Object.create(object)]),
    ];
    // Our own objects are the ones to be mistaken for each other.
    const [name, make] = draws.of(draws.chance(0.5) ? others : others.slice(hostileValues.length));
    self = make();
    notes.push(`this: ${name}`);
  }
  const asClass = target.isClass ? !draws.chance(0.1) : draws.chance(0.02);
  if (asClass) notes.push('new');
  const { call } = target;
  const isForeign = onWrongThis || asClass !== Boolean(target.isClass);
  return {
    name: target.name,
    notes,
    scene,
    onWrongThis: isForeign,
    run: () => (asClass ? Reflect.construct(call, args) : Reflect.apply(call, self, args)),
  };
}

/** Disposes of what a call made. */
function release(result: unknown): void {
  const dispose = (result as { dispose?: unknown } | undefined)?.dispose;
  if (typeof dispose === 'function' && typeof result === 'object') dispose.call(result);
}

async function judge(made: Made, index: number): Promise<void> {
  outcome.calls++;
  outcome.targets[made.name] = (outcome.targets[made.name] ?? 0) + 1;
  try {
    release(await made.run());
    outcome.answered++;
  } catch (error) {
    const { thrown, hasForeignCode } = made.scene;
    // An aborted call rejects with the signal's reason.
    if (thrown.includes(error) || (error instanceof DOMException && error.name === 'TimeoutError')) outcome.trapped++;
    // V8's own words about what a method is called on, and about a proxy that the caller revoked.
    else if (error instanceof ComFaceError || (error instanceof TypeError && (made.onWrongThis || hasForeignCode))) outcome.refused++;
    else {
      outcome.untyped++;
      if (outcome.examples.length < 40) outcome.examples.push(`call ${index} ${made.name} ${made.notes.join('; ')} -> ${describe(error)}`);
    }
  }
}

async function makeCalls(): Promise<void> {
  for (let index = order.from; index < order.from + order.count; ) {
    const cast = await makeCast(order);
    const targets = targetsOf(cast, order, folder);
    outcome.missing = uncalled(cast, targets);
    // Casts change at fixed numbers, so that a call is the same wherever a process began.
    const end = Math.min(order.from + order.count, (Math.floor(index / kCast) + 1) * kCast);
    while (index < end) {
      const together: Promise<void>[] = [];
      for (let i = 0; i < kTogether && index < end; i++, index++) {
        const made = callOf(index, cast, targets);
        writeSync(progress, `${index} ${made.name} ${made.notes.join('; ')}`.slice(0, 500).padEnd(500), 0);
        together.push(judge(made, index));
      }
      await Promise.all(together);
    }
    endCast(cast);
    if (index % (8 * kCast) === 0) globalThis.gc?.();
  }
}

await makeCalls().catch((error) => {
  console.error(error); // not a figure: this script is wrong
  process.exit(3);
});
await new Promise((resolve) => setTimeout(resolve, 50)); // what was left unhandled shows
closeSync(progress);
process.chdir(tmpdir());
rmSync(folder, { recursive: true, force: true });
console.log(JSON.stringify(outcome));
