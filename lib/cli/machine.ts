// Commands about the machine and the installation.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, type Command, Option } from 'commander';
import { describe, diagnose, kTestSeconds } from '../doctor.js';
import { ComFaceError, sizeText } from '../errors.js';
import { completion, shells } from './completion.js';
import { endBy, path, printResult, progress, wrapped } from './terminal.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** comface doctor */
export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .summary('Say what works on this machine, and what to do about the rest')
    .description('Say what works here, CPU and GPU, and what to do about what does not. Code 0 when at least one works.')
    .option('--quick', `Leave out the self-test: training steps of a ResNet-18 on drawn faces, about ${kTestSeconds} seconds`)
    .addHelpText('after', '\nExamples:\n  $ comface doctor\n  $ comface doctor --quick --json')
    .action(async ({ quick }: { quick?: boolean }) => {
      const isQuick = quick === true;
      const onDevice = (device: string) => {
        if (!isQuick) progress.update(`Training on ${device} for some seconds ...`);
      };
      const diagnosis = await diagnose({ quick: isQuick, onDevice });
      printResult(diagnosis, ...describe(diagnosis));
      if (diagnosis.works.length === 0) process.exitCode = 1;
    });
}

/** comface build */
export function addBuild(program: Command): void {
  program
    .command('build')
    .summary('Build the native code, where no prebuilt binary works')
    .description("Build the native code in the installed package's folder, where no prebuilt binary works or with the CUDA backend.")
    .addOption(
      new Option('--cuda <name>', 'The CUDA backend: auto (if nvcc and the headers are there), on or off')
        .choices(['auto', 'on', 'off'])
        .default('auto'),
    )
    .addHelpText(
      'after',
      `\n${wrapped('It takes a few minutes on Linux x86-64, and needs a C++20 compiler, CMake, oneDNN, libjpeg-turbo and two npm packages; what is missing is named. What was built comes before the prebuilt binary from then on.')}\n\nExamples:\n  $ npm install --save-dev cmake-js@8 node-addon-api@8 && npx comface build\n  $ npx comface build --cuda on`,
    )
    .action(async ({ cuda }: { cuda: string }) => {
      const platform = `${process.platform}-${process.arch}`;
      if (platform !== 'linux-x64') {
        const hint = 'Use a Linux machine, a container or WSL 2.';
        throw new ComFaceError('DEVICE_UNAVAILABLE', `ComFace runs on linux-x64 but this is ${platform}`, { hint });
      }
      await runBuild(cuda);
      const built = builtFiles();
      const hasCuda = built.files.some(({ name }) => name === 'libcomface_cuda.so');
      printResult(
        { ...built, cuda: hasCuda },
        ...built.files.map(({ name, bytes }) => `${path(join(built.folder, name))}  ${sizeText(bytes)}`),
        `Built ${hasCuda ? 'with' : 'without'} the CUDA backend. See whether it works: comface doctor`,
      );
    });
}

/** Its output is no result: all of it goes to standard error. */
async function runBuild(cuda: string): Promise<void> {
  const script = join(root, 'native', 'build.mjs');
  if (!existsSync(script)) {
    throw new ComFaceError('IO', `${script} is missing`, { hint: 'Install the package again: npm install comface' });
  }
  const child = spawn(process.execPath, [script, '--cuda', cuda], { cwd: root, stdio: ['ignore', 2, 2] });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (...how) => resolve(how));
  });
  if (signal !== null) endBy(signal);
  if (code !== 0) {
    const hint = 'The reason is above. Install what it names, then run comface build again.';
    throw new ComFaceError('DEVICE_UNAVAILABLE', `The build ended with code ${code}`, { hint });
  }
}

function builtFiles(): { folder: string; files: { name: string; bytes: number }[] } {
  const folder = join(root, 'build', 'Release');
  const names = readdirSync(folder).filter((name) => /^comface\.node$|^lib.*\.so/.test(name));
  return { folder, files: names.sort().map((name) => ({ name, bytes: statSync(join(folder, name)).size })) };
}

/** comface completion */
export function addCompletion(program: Command): void {
  program
    .command('completion')
    .summary('Print a script that completes commands and options with Tab')
    .description('Print a script for your shell that completes commands, options and their values with Tab.')
    .addArgument(new Argument('<shell>', 'bash or zsh').choices(shells))
    .addHelpText('after', '\nExample (a line for ~/.bashrc):\n  $ source <(comface completion bash)')
    .action((shell: (typeof shells)[number]) => {
      const script = completion(program, shell);
      printResult({ shell, script }, ...script.split('\n'));
    });
}
