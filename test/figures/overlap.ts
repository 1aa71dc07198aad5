// Two saves at once on one simulated disk, as when a lock failed to keep two processes apart: every order of their file calls with a few switches.
// Only one of them moves at a time, so an order is repeated exactly.
import type { FileSystem } from '../../lib/train/files.ts';

/** One of the two processes. It waits before each of its file calls until `step()` lets it go on. */
export class Actor {
  calls = 0;
  /** What the save came to, once it has ended. */
  outcome: { saved: boolean; error?: unknown } | undefined;
  #goOn = () => {};
  #arrived = () => {};
  #wait: Promise<void>;

  /** @param pid Its temporary folders bear this number instead of ours. */
  constructor(disk: FileSystem, pid: number, save: (files: FileSystem) => Promise<unknown>) {
    const own = (text: unknown) => (typeof text === 'string' ? text.replace(`.tmp-${process.pid}`, `.tmp-${pid}`) : text);
    const files = new Proxy<FileSystem>(disk, {
      get:
        (_, name: keyof FileSystem) =>
        async (...given: [string, never]) => {
          const turn = new Promise<void>((resolve) => {
            this.#goOn = resolve;
          });
          this.#arrived();
          await turn;
          this.calls++;
          return disk[name](...(given.map(own) as [string, never]));
        },
    });
    this.#wait = this.#arrival();
    const end = (outcome: { saved: boolean; error?: unknown }) => {
      this.outcome = outcome;
      this.#arrived();
    };
    save(files).then(
      () => end({ saved: true }),
      (error) => end({ saved: false, error }),
    );
  }

  #arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#arrived = resolve;
    });
  }

  /** Lets it make one call and come to the next, or to its end. False when it has ended already. */
  async step(): Promise<boolean> {
    await this.#wait;
    if (this.outcome) return false;
    this.#wait = this.#arrival();
    this.#goOn();
    await this.#wait;
    return true;
  }
}

/** Lets each in turn make so many calls, the first one first, and then each go on to its end. */
export async function takeTurns(actors: readonly [Actor, Actor], order: readonly number[]): Promise<void> {
  const turns = [...order, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (const [turn, calls] of turns.entries()) {
    const actor = actors[turn % 2]!;
    for (let call = 0; call < calls && (await actor.step()); call++);
  }
}

/** Every order with at most `switches` switches before both run to their ends, in which no turn is longer than `calls`. */
export function* orders(switches: number, calls: number): Generator<number[]> {
  for (let first = 0; first <= calls; first++) {
    if (switches === 1) yield [first];
    else for (const rest of orders(switches - 1, calls)) if (rest[0]! > 0) yield [first, ...rest];
  }
}
