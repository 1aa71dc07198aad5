// Stops a training and goes on with it later: the weights are those of a run that was never stopped, bit for bit.
//   node resume.ts                  trains; Ctrl+C saves and stops; the same command goes on
//   node resume.ts --stop-after 5   as if Ctrl+C was pressed during step 5 of this call
// It ends with the SHA-256 of the weights. Stop it as often as you like: with the same seed, machine and threads it is the same each time.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ComFaceError, generate, train } from 'comface';

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    out: { type: 'string', default: 'run-resume' },
    epochs: { type: 'string', default: '3' },
    'stop-after': { type: 'string' },
  },
});

/** The reason that the signal is aborted with: what the run then rejects with. */
class Stopped extends Error {}

async function main(): Promise<void> {
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort(new Stopped('Ctrl+C'))); // a second Ctrl+C ends the process at once
  const { signal } = controller;
  const { folder } = values.data
    ? { folder: values.data }
    : await generate({ out: 'faces-resume', subjects: 30, attributes: ['smile'], alphas: 5, size: 32 });

  const run = train(
    {
      data: folder,
      out: values.out,
      resume: true, // goes on where there is something to go on from, and begins where there is not
      backbone: 'resnet18',
      width: 16,
      size: 32,
      pairs: 8,
      epochs: Number(values.epochs),
      threads: 1, // sums are rounded in another order by other numbers of threads
      checkpointEverySteps: 100, // what is lost at most when the machine goes down; a signal saves at once
    },
    { signal },
  );
  let first = 0;
  for await (const event of run) {
    if (event.type === 'start') {
      first = event.step;
      console.error(first === 0 ? 'begins' : `goes on after step ${first}`);
    }
    if (event.type === 'step') console.error(`step ${event.step} of ${event.steps}: loss ${event.loss.toFixed(3)}`);
    if (event.type === 'step' && event.step - first === Number(values['stop-after'])) controller.abort(new Stopped(`step ${event.step}`));
  }
  const { path } = await run;
  const weights = await readFile(join(path, 'weights.safetensors'));
  console.log(createHash('sha256').update(weights).digest('hex'));
}

try {
  await main();
} catch (error) {
  if (error instanceof Stopped) console.error(`Stopped (${error.message}) and saved. The same command goes on.`);
  else if (error instanceof ComFaceError) console.error(`${error.code}: ${error.message}${error.hint ? `\n${error.hint}` : ''}`);
  else throw error;
  process.exitCode = error instanceof Stopped ? 130 : 1; // 130 is what shells expect after Ctrl+C
}
