// Prints one line per figure at the end of a test run. With COMFACE_FIGURES=FILE it also writes them there, for soak.mjs.
import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

export interface FigureLine {
  id: string;
  line: string;
  state: string;
  seconds: number;
}

const ofFigure = /^([RFMETN]\d+) /;

/** R1 before R10, in the order of the letters below. */
const place = (id: string): number => 'NRFMET'.indexOf(id[0]!) * 1000 + Number(id.slice(1));

function lineOf(test: TestCase): FigureLine | undefined {
  const said = test.meta().figure;
  const id = (said ?? test.fullName).match(ofFigure)?.[1];
  const { state, errors } = test.result();
  const isSilent = said === undefined && state === 'skipped'; // left out by a filter
  if (id === undefined || isSilent || state === 'pending') return undefined;
  const words = said?.slice(id.length + 1) ?? (state === 'failed' ? errors?.[0]?.message.split('\n')[0] : test.name.slice(id.length + 1));
  return { id, line: words ?? '', state, seconds: (test.diagnostic()?.duration ?? 0) / 1000 };
}

export default class FigureReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const lines = tests.flatMap((test) => lineOf(test) ?? []).sort((a, b) => place(a.id) - place(b.id));
    for (const { id, line, state, seconds } of lines) {
      console.log(`${state === 'failed' ? 'FAILED ' : ''}${id} ${line} (${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s)`);
    }
    const file = process.env.COMFACE_FIGURES;
    if (file) writeFileSync(file, JSON.stringify(lines));
  }
}
