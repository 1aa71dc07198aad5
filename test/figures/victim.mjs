// @ts-check
// A small real training in a process of its own, to be killed: node victim.mjs '{"options": {...}, "fault": {"at": 3, "code": "EIO", "forGood": false}}'
// Each event goes out as one line before the next step begins. With a fault, that file call in the run folder fails, counted from 1.
import { writeSync } from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';

const { options, fault } = JSON.parse(process.argv[2] ?? '');
const say = (/** @type {unknown[]} */ ...words) => writeSync(1, `${words.join(' ')}\n`);

let calls = 0;
/** @param {string} path */
function mayFail(path) {
  if (!path.startsWith(options.out)) return;
  calls++;
  if (calls !== fault.at && !(fault.forGood && calls > fault.at)) return;
  throw Object.assign(new Error(`${fault.code}: on purpose, call ${calls}`), { code: fault.code });
}

/** Puts itself between the package and node:fs/promises, so that the package needs no door for tests. */
async function injectFaults() {
  const disk = createRequire(import.meta.url)('node:fs/promises');
  const sample = await disk.open(process.execPath, 'r');
  const handle = Object.getPrototypeOf(sample);
  await sample.close();
  /** @type {WeakMap<object, string>} */
  const pathOf = new WeakMap();
  for (const name of ['mkdir', 'open', 'readdir', 'readFile', 'rename', 'rm', 'writeFile', 'link']) {
    const call = disk[name];
    disk[name] = async (/** @type {unknown} */ path, /** @type {unknown[]} */ ...rest) => {
      mayFail(String(path));
      const result = await call(path, ...rest);
      if (name === 'open') pathOf.set(result, String(path));
      return result;
    };
  }
  for (const name of ['writeFile', 'appendFile', 'sync']) {
    const call = handle[name];
    handle[name] = async function (/** @type {unknown[]} */ ...rest) {
      mayFail(pathOf.get(this) ?? '');
      return call.apply(this, rest);
    };
  }
  syncBuiltinESMExports();
}

if (fault) await injectFaults();
const { ComFaceError, train } = await import(new URL('../../dist/index.js', import.meta.url).href);
try {
  for await (const event of train(options)) {
    if (['start', 'step', 'checkpoint', 'warning'].includes(event.type)) say(event.type, event.step ?? event.message);
  }
  say('end');
} catch (caught) {
  const error = /** @type {any} */ (caught);
  if (!(error instanceof ComFaceError) || !error.hint) throw error;
  say('error', error.code, error.cause?.code ?? '', error.message);
  process.exitCode = 3;
}
