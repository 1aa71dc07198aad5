// Runs a script of this folder in a process of its own, as figures do whose subject may crash or never end.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const kSilentMs = 60_000;

/** How a child ended: with its outcome, or in a crash. */
export interface Ended<Outcome> {
  outcome: Outcome | undefined;
  /** Empty when there was none. */
  crash: string;
}

/**
 * Runs `script` until its end. It sends numbers, how far it is, and at last its outcome; when it is silent for too long it is killed.
 * @param args Its arguments.
 * @param flags Those of node.
 */
export async function runChild<Outcome extends object>(
  script: string,
  args: readonly string[],
  flags: string[] = [],
): Promise<Ended<Outcome>> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = fork(path, args, { execArgv: flags, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  onTestFinished(() => void child.kill('SIGKILL')); // also when its time is up
  let outcome: Outcome | undefined;
  let [reached, errors] = [0, ''];
  let isSilent = false;
  const hang = () => {
    isSilent = true;
    child.kill('SIGKILL');
  };
  let alarm = setTimeout(hang, kSilentMs);
  child.stderr?.on('data', (text) => (errors += text));
  child.on('message', (message: number | Outcome) => {
    clearTimeout(alarm);
    alarm = setTimeout(hang, kSilentMs);
    if (typeof message === 'number') reached = message;
    else outcome = message;
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => child.on('close', (...end) => resolve(end)));
  clearTimeout(alarm);
  const how = isSilent ? `no word for ${kSilentMs / 1000} s` : (signal ?? `exit code ${code}`);
  return { outcome, crash: code === 0 && outcome ? '' : `${script} ${args.join(' ')} after ${reached}: ${how} ${errors.slice(0, 1000)}` };
}
