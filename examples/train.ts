// Trains a network: draws a small data set or takes a folder of yours, prints how far it is, saves, and says what it has learned.
//   node train.ts                                     draws faces and trains for some seconds: enough to see it work, too little to learn much
//   node train.ts --data set --size 128 --epochs 12   a set that `comface pack` or `comface generate` made
import { parseArgs } from 'node:util';
import { ComFaceError, generate, type TrainOptions, train } from 'comface';

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    out: { type: 'string', default: 'run' },
    size: { type: 'string', default: '32' },
    pairs: { type: 'string', default: '8' },
    epochs: { type: 'string', default: '4' },
    threads: { type: 'string', default: '0' },
  },
});

/** 60 people, each drawn with five smiles and five weights: 600 pictures. */
async function draw(): Promise<string> {
  const set = { out: 'faces-train', subjects: 60, attributes: ['smile', 'weight'], alphas: 5, size: 32 };
  const { folder, count } = await generate(set);
  console.error(`${count} pictures in ${folder}`);
  return folder;
}

async function main(): Promise<void> {
  const options: TrainOptions = {
    data: values.data ?? (await draw()),
    out: values.out,
    backbone: 'resnet18',
    width: 16, // a quarter of the usual channels, so that a step takes milliseconds; leave it out for a model to use
    size: Number(values.size),
    pairs: Number(values.pairs),
    epochs: Number(values.epochs),
    curriculum: { stageEnds: [1, 2, 3, 4] }, // changes get smaller from epoch to epoch; the default is made for 12
    threads: Number(values.threads), // 0: one for each core
  };
  const run = train(options);
  for await (const event of run) {
    switch (event.type) {
      case 'start':
        console.error(
          `${event.pictures} pictures of ${event.subjects} people, ${event.steps} steps on ${event.device} (${event.precision})`,
        );
        break;
      case 'step':
        if (event.step % 20 === 0 || event.step === event.steps) {
          const losses = `InfoNCE ${event.inter.toFixed(3)}, change ${event.intra.toFixed(3)}`;
          console.error(`step ${event.step} of ${event.steps}: ${losses}, ${Math.ceil(event.secondsLeft)} s left`);
        }
        break;
      case 'validation':
        console.error(`epoch ${event.epoch}: off by ${event.mae.toFixed(2)} steps of alpha on people it has not seen (mean)`);
        break;
      case 'broken':
        console.error(`cannot be used: ${event.file}: ${event.reason}`);
        break;
      case 'warning':
        console.error(event.message);
        break;
    }
  }
  const { path, step, seconds } = await run;
  console.error(`${step} steps in ${seconds.toFixed(1)} s`);
  console.log(path); // loadModel(path), or loadModel of the run's folder
}

try {
  await main();
} catch (error) {
  if (!(error instanceof ComFaceError)) throw error;
  console.error(`${error.code}: ${error.message}${error.hint ? `\n${error.hint}` : ''}`);
  process.exitCode = 1;
}
