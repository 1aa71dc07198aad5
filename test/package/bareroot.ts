// A root folder with node, three package managers, sh and env and nothing else: no compiler, no Python, no oneDNN.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** From the registry, as a user has them. */
const managers = ['npm@11.21.2', 'pnpm@12.21.0', 'yarn@1.22.22'];
const kSeconds = 120;

const unshare = process.getuid?.() === 0 ? ['unshare', '--mount'] : ['unshare', '--mount', '--map-root-user'];
/**
 * Ways to have a folder as the root folder, the best first: with the system's /proc in it, which the namespace of the command alone sees; without; and
 * not at all, but with a PATH of it alone, where a system allows neither.
 */
const ways = [
  { name: 'proc', command: [...unshare, 'sh', '-c', 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"'] },
  { name: 'chroot', command: ['chroot'] },
  { name: 'path', command: ['sh', '-c', 'exec "$@"'] },
] as const;
const way = ways.find(({ command: [program, ...args] }) => spawnSync(program, [...args, '/', '/bin/true']).status === 0)!;

/** Whether programs in the root can look at themselves. */
export const hasProc = way.name !== 'chroot';

export interface Ran {
  status: number | null;
  out: string;
  errors: string;
  seconds: number;
}

export class BareRoot {
  /** As this process sees it. */
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'comface-root-')));

  constructor() {
    for (const each of ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'tmp', 'usr/bin'])
      mkdirSync(join(this.folder, each), { recursive: true });
    chmodSync(join(this.folder, 'tmp'), 0o1777);
    this.#addProgram(process.execPath, '/usr/bin/node');
    for (const program of ['/bin/sh', '/usr/bin/env']) this.#addProgram(realpathSync(program), program);
    this.#addRestOfLibc();
    // What yarn asks about itself.
    if (way.name === 'chroot') this.write('/proc/self/stat', readFileSync('/proc/self/stat', 'utf8'));
    // A plain file takes what is written to /dev/null as well, where no device can be made.
    if (spawnSync('mknod', ['-m', '666', join(this.folder, 'dev/null'), 'c', '1', '3']).status !== 0) this.write('/dev/null', '');
    // To reach the registry: names of hosts, certificates, the user's settings of npm.
    const certificates = process.env.NODE_EXTRA_CA_CERTS;
    for (const file of [
      '/etc/resolv.conf',
      '/etc/hosts',
      '/etc/nsswitch.conf',
      '/etc/ssl/certs/ca-certificates.crt',
      ...(certificates ? [certificates] : []),
    ])
      if (existsSync(file)) this.#add(file, file);
    for (const file of [process.env.npm_config_userconfig, process.env.NPM_CONFIG_USERCONFIG, join(homedir(), '.npmrc')])
      if (file && existsSync(file)) this.#add(file, '/root/.npmrc');
    this.#addManagers();
  }

  #add(from: string, to: string): void {
    const place = join(this.folder, to);
    mkdirSync(dirname(place), { recursive: true });
    copyFileSync(from, place);
    chmodSync(place, statSync(from).mode);
  }

  /** With the libraries that the loader finds for it. */
  #addProgram(from: string, to: string): void {
    this.#add(from, to);
    const { stdout } = spawnSync('ldd', [from], { encoding: 'utf8' });
    for (const [file] of stdout.matchAll(/\/\S+\.so[.\d]*/g)) if (!existsSync(join(this.folder, file))) this.#add(file, file);
  }

  /** The libraries of the C library that node itself does not need: every system has them. */
  #addRestOfLibc(): void {
    const libc = process.report.getReport() as { sharedObjects: string[] };
    const folder = dirname(libc.sharedObjects.find((file) => /\/libc\.so\.6$/.test(file))!);
    for (const name of ['libresolv.so.2', 'librt.so.1', 'libutil.so.1', 'libnss_dns.so.2', 'libnss_files.so.2'])
      if (existsSync(join(folder, name))) this.#add(join(folder, name), join(folder, name));
  }

  #addManagers(): void {
    const { status, stderr } = spawnSync('npm', ['install', '--global', '--prefix', join(this.folder, 'usr'), ...managers], {
      ...{ encoding: 'utf8', timeout: kSeconds * 1000, cwd: this.folder },
    });
    if (status !== 0) throw new Error(`${managers.join(', ')} cannot be installed:\n${stderr}`);
  }

  /** A path of it as its programs see it. */
  at(path: string): string {
    return way.name === 'path' ? join(this.folder, path) : path;
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.folder, path)), { recursive: true });
    writeFileSync(join(this.folder, path), text);
  }

  copy(file: string, path: string): void {
    this.#add(file, path);
  }

  /** Runs a program of the root in one of its folders, with nothing of this process's environment but the way to the registry. */
  run(cwd: string, command: string, args: readonly string[], environment: Record<string, string> = {}): Ran {
    const passed = Object.entries(process.env).filter(([name]) =>
      /^(npm_config_registry|https?_proxy|no_proxy|NODE_EXTRA_CA_CERTS)$/i.test(name),
    );
    const env = {
      ...Object.fromEntries(passed),
      HOME: this.at('/root'),
      PATH: `${this.at('/usr/bin')}:${this.at('/bin')}`,
      ...environment,
    };
    const words = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const inside = [this.folder, '/usr/bin/env', '-i', ...words, '/bin/sh', '-c', 'cd "$0" && exec "$@"', this.at(cwd), command, ...args];
    const start = performance.now();
    const { status, stdout, stderr, error } = spawnSync(way.command[0], [...way.command.slice(1), ...inside], {
      ...{ encoding: 'utf8', timeout: kSeconds * 1000, maxBuffer: 1 << 26 },
    });
    return {
      status,
      out: stdout,
      errors: error === undefined ? stderr : `${stderr}\n${error.message}`,
      seconds: (performance.now() - start) / 1000,
    };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
