// @ts-check
// How long a program waits for the package before it can compute: a new process of Node.js, the import, the first call.
import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { among, Contender, peer, root } from '../contenders.mjs';

/** What each package is started with: to where it could compute. */
export const programs = {
  comface: `import { checkTrainOptions } from 'comface';
    const { chooseDevice, native } = await import('./dist/native.js');
    const layers = [{ op: 'input', name: 'images', channels: 16, height: 1, width: 1 }, { op: 'relu', name: 'relu', input: 'images' }];
    const engine = await native().module.createEngine(chooseDevice('cpu', 'fp32').library, { layers, batch: 1, training: false, precision: 'fp32', threads: 1 });
    console.log(typeof checkTrainOptions, engine.state);
    engine.dispose();`,
  sharp: `import sharp from 'sharp';
    const { info } = await sharp(Buffer.alloc(12), { raw: { width: 2, height: 2, channels: 3 } }).raw().toBuffer({ resolveWithObject: true });
    console.log(info.width);`,
  tfjs: `const tf = await import('@tensorflow/tfjs');
    await tf.ready();
    console.log(tf.tensor1d([1, 2]).add(1).dataSync()[1]);`,
};

/** @type {import('../cases.mjs').Case['prepare']} */
export async function startUp() {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', programs.comface], {
    cwd: root,
    encoding: 'utf8',
  });
  assert(status === 0 && stdout === 'function ready\n', `the package does not start: ${stdout}${stderr}`);
  const starter = (/** @type {string} */ name, /** @type {keyof typeof programs} */ which) =>
    new Contender(name, process.execPath, [peer('start.mjs'), which]);
  const ours = starter('comface', 'comface');
  const { run, rivals, end } = await among(ours, [starter('sharp', 'sharp'), starter('TensorFlow.js', 'tfjs')], () => {});
  const facts = () => ({ rivals: rivals() });
  return { run, items: ours.ready.items, checked: 'the import and an engine of the CPU backend that is ready', threads: 1, facts, end };
}
