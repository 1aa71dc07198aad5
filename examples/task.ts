// A task of your own from a CSV file: packs the pictures, transfers a network to them, says how well it does on people it has not seen, and compares
// two pictures with the model that comes of it.
//   node task.ts --csv labels.csv --unit points --model run   columns path (from the file's folder), subject and label, at least
//   node task.ts                                              draws such a file: 24 people whose smile is rated from 0 to 10
// Without --model it begins with random weights; --model run is what train.ts made.
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { ComFaceError, generate, loadModel, pack, readPictures, transfer } from 'comface';

const { values } = parseArgs({
  options: {
    csv: { type: 'string' },
    attribute: { type: 'string', default: 'smile' },
    unit: { type: 'string', default: 'points' },
    model: { type: 'string' },
    out: { type: 'string', default: 'task' },
    size: { type: 'string', default: '32' },
    evaluation: { type: 'string', default: 'linear' }, // or fineTune: all layers are trained, which takes longer and is mostly better
    threads: { type: 'string', default: '0' },
  },
});

/** Drawn people, and the file that somebody who rated them would write. */
async function draw(): Promise<string> {
  const { files, subject, alpha } = await generate({
    ...{ out: 'rated', format: 'files', subjects: 24, firstSubject: 2_000_000, attributes: ['smile'], alphas: 6, size: 64 },
  });
  const rows = files.map((file, i) => `${relative('.', file)},person-${subject[i]},${(alpha[i] ?? 0) + 5}`);
  await writeFile('rated.csv', `path,subject,label\n${rows.join('\n')}\n`);
  return 'rated.csv';
}

async function main(): Promise<void> {
  const csv = values.csv ?? (await draw());
  await mkdir(values.out, { recursive: true });
  const set = join(values.out, 'set');
  const { data, rejected } = await pack({ from: csv, out: set, attribute: values.attribute, size: Number(values.size) });
  for (const { path, reason } of rejected) console.error(`left out: ${path}: ${reason}`);
  console.error(`${data.count} pictures of ${data.subjects.length} people`);

  const out = join(values.out, 'transfer');
  const result = await transfer({
    ...{ data: set, out, attribute: values.attribute, unit: values.unit, threads: Number(values.threads) },
    ...(values.model ? { model: values.model } : { backbone: 'resnet18', width: 16, size: 32 }),
    evaluation: values.evaluation === 'fineTune' ? 'fineTune' : 'linear',
    pairsPerSubject: 20,
    onEvent: (event) => {
      if (event.type === 'fold') console.error(`fold ${event.fold} of ${event.folds}, ${Math.ceil(event.secondsLeft)} s left`);
      if (event.type === 'warning') console.error(event.message);
    },
  });
  const { mae, correlation, accuracy } = result.scores;
  const text = ({ value, low, high }: typeof mae) => [value, low, high].map((x) => x?.toFixed(3) ?? '-');
  console.log('score,value,low,high'); // low and high: 95 % of a bootstrap over subjects
  console.log(['mae', ...text(mae)].join(','));
  console.log(['correlation', ...text(correlation)].join(','));
  console.log(['accuracy', ...text(accuracy)].join(','));

  // The folder holds a model of all subjects, too. It takes JPEG files that are cropped to the face.
  const model = await loadModel(out);
  try {
    const { subject, path } = await readPictures(set); // by subject, then label: the first and the last of a person are the farthest apart
    const [x, y] = [path[0] ?? '', path[subject.lastIndexOf(subject[0] ?? '')] ?? ''].map((name) => join(dirname(csv), name));
    if (!x || !y || !/\.jpe?g$/i.test(x) || !/\.jpe?g$/i.test(y)) return;
    const { change, direction, unit } = await model.compare(x, y);
    console.error(`${x} to ${y}: ${direction} by ${Math.abs(change).toFixed(2)} ${unit}`);
  } finally {
    model.dispose();
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof ComFaceError)) throw error;
  console.error(`${error.code}: ${error.message}${error.hint ? `\n${error.hint}` : ''}`);
  process.exitCode = 1;
}
