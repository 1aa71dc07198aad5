// @ts-check
// Brings the headers of cuDNN and cuBLASLt into native/build/nvidia (ignored by git: they are NVIDIA's), for building the CUDA backend on a
// machine that has nvcc only. Takes them out of the packages that pip downloads; with nothing to do it says nothing.
//   node scripts/headers.mjs [--libraries]
// With --libraries also the libraries themselves (1.3 GB), for tests and for running: COMFACE_CUDA_LIBRARIES=native/build/nvidia.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const packages = ['nvidia-cudnn-cu13==9.24.0.43', 'nvidia-cublas==13.1.1.3'];
const withLibraries = process.argv.includes('--libraries');
const wanted = ['cudnn/include/cudnn.h', 'cu13/include/cublasLt.h'];
if (withLibraries) wanted.push('cudnn/lib/libcudnn.so.9', 'cu13/lib/libcublasLt.so.13');
const folder = fileURLToPath(new URL('../native/build/nvidia/', import.meta.url));
const stampFile = join(folder, 'versions.txt');
const stamp = `${packages.join('\n')}\n`;
const kMinutes = 10;
/** In the packages. The parts of cuDNN that the graph API opens, not those for recurrent networks and the old calls. */
const chosen = `nvidia/\\w+/(include/${withLibraries ? '|lib/lib(cudnn(_graph|_ops|_engines_\\w+|_heuristic)?|cublasLt)\\.so' : ''})`;

const extract = `
import re, sys, zipfile
for wheel in sys.argv[3:]:
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            if re.match(sys.argv[2], name):
                z.extract(name, sys.argv[1])
`;

/** @param {readonly string[]} args */
function python(...args) {
  // Without PIP_RETRIES pip asks an index that cannot be reached again and again, for seconds each.
  const env = { ...process.env, PIP_RETRIES: '0', PIP_DISABLE_PIP_VERSION_CHECK: '1' };
  const { status, stderr, error } = spawnSync('python3', args, { env, encoding: 'utf8', timeout: kMinutes * 60_000 });
  return { ok: status === 0, reason: (error?.message ?? stderr ?? '').trim().split('\n').slice(-3).join('\n  ') };
}

/** @param {string} what @param {string} reason @param {string} advice @returns {never} */
function fail(what, reason, advice) {
  console.error(`headers: ${what}:\n  ${reason}\n  ${advice}`);
  process.exit(1);
}

const isComplete = wanted.every((file) => existsSync(join(folder, file)));
if (isComplete && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) process.exit(0);

const pip = python('-m', 'pip', '--version');
if (!pip.ok) fail('python3 with pip is needed', pip.reason, 'Debian, Ubuntu: apt-get install python3-pip');
const wheels = mkdtempSync(join(tmpdir(), 'comface-headers-'));
process.on('exit', () => rmSync(wheels, { recursive: true, force: true }));
console.error(`headers: downloading ${packages.join(' and ')} (about 900 MB) ...`);
const download = python('-m', 'pip', 'download', '-q', '--no-deps', '--only-binary=:all:', '-d', wheels, ...packages);
if (!download.ok) {
  const advice = 'Check the network, or set NVIDIA_WHEEL_ROOT to a site-packages/nvidia that has these packages.';
  fail('pip could not download them', download.reason, advice);
}
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const files = readdirSync(wheels).map((name) => join(wheels, name));
const unpacked = python('-c', extract, join(folder, '..'), chosen, ...files); // the packages' own folder is called nvidia
if (!unpacked.ok) fail('unpacking them failed', unpacked.reason, 'Run this again.');
const missing = wanted.filter((file) => !existsSync(join(folder, file)));
if (missing.length > 0) fail('the packages hold no', missing.join(', '), 'Their layout has changed: look for these files in them.');
writeFileSync(stampFile, stamp);
