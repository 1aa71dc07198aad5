// A figure is a promise with a name (R1, F2, ...), a number that `npm test` reaches and a greater one that `npm run soak` reaches.
// Each says one line about what it measured, before it judges; reporter.ts prints them at the end and soak.mjs keeps them.
import { type TestContext, test } from 'vitest';

declare module 'vitest' {
  interface TaskMeta {
    figure?: string;
  }
}

/** Whether this is `npm run soak`. */
export const isLong = process.env.COMFACE_SOAK === 'long';

export interface FigureRun {
  /** How many kills, inputs, steps ... this run has to do. */
  count: number;
  /** Puts the figure's line: what was measured, without its name. The last one stays. */
  say(line: string): void;
  /** Leaves the figure out, with a line that says why and what to do. */
  skip(why: string): never;
}

/**
 * A test of one figure. The name starts with the figure's own: 'R1 a kill at any moment loses nothing'.
 * @param counts.ci, counts.long How many in `npm test` and in `npm run soak`.
 * @param counts.seconds What `npm test` takes at most on a busy machine; twice that ends it. A long run gets as many times more as it does more.
 */
export function figure(
  name: string,
  { ci, long, seconds = 120 }: { ci: number; long: number; seconds?: number },
  body: (run: FigureRun) => Promise<void>,
): void {
  const count = isLong ? long : ci;
  test(name, { timeout: 2000 * seconds * Math.max(1, isLong ? long / ci : 1) }, (context) =>
    body({ count, say: (line) => say(context, name, line), skip: (why) => skip(context, name, why) }),
  );
}

/** The same line from a test that is not a figure alone. */
export function say({ task }: TestContext, name: string, line: string): void {
  task.meta.figure = `${name.split(' ')[0]} ${line}`;
}

function skip(context: TestContext, name: string, why: string): never {
  say(context, name, `skipped: ${why}`);
  return context.skip(why);
}
