// M4: LeakSanitizer over everything that engines and sources go through, threads that are terminated with full queues above all.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { sharedFolder, writePicture } from '../faces.ts';
import { figure } from './figure.ts';
import { runSanitized } from './sanitized.ts';

const folder = sharedFolder();
const suppressions = fileURLToPath(new URL('leaks.supp', import.meta.url));
/** A frame in the add-on, in a backend, or in what only they load. */
const ours = /comface|dnnl|turbojpeg|libgomp/;

figure('M4 nothing that engines and sources took is lost', { ci: 10, long: 50, seconds: 300 }, async ({ count, say, skip }) => {
  const files = await Promise.all([0, 1].map((i) => writePicture(join(folder, `${i}.jpg`), 32, (x, y) => [x * 8, y * 8, i * 200])));
  const { status, output, reports } = await runSanitized('leaks', [JSON.stringify({ files, rounds: count })], {
    flags: ['--expose-gc'],
    // Exit code 0 with leaks: another one means that the script did not get through.
    env: { ASAN_OPTIONS: 'detect_leaks=1', LSAN_OPTIONS: `suppressions=${suppressions}:exitcode=0:max_leaks=0` },
  });
  if (output.includes('LeakSanitizer has encountered a fatal error')) {
    skip('LeakSanitizer may not trace its own threads here: allow ptrace (docker run --cap-add SYS_PTRACE)');
  }
  const leaks = output.split(/\n\s*\n/).filter((block) => /(Direct|Indirect) leak of/.test(block));
  const lost = leaks.filter((block) => ours.test(block));
  const rest = `${leaks.length - lost.length} others`;
  say(`${count} rounds of create, use, drop and terminate: ${lost.length} leaks with a frame of ours, ${rest}`);
  expect(status, output.slice(-6000)).toBe(0);
  expect(output).toContain(JSON.stringify({ rounds: count }));
  expect(lost).toEqual([]);
  expect(leaks).toEqual([]);
  expect(reports.filter((line) => !line.includes('LeakSanitizer'))).toEqual([]);
});
