// A headless browser, where one is installed.
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryFolder } from './support.ts';

/** Why a test is left out. */
export const noBrowser = 'no browser here (apt-get install chromium)';

/** The path of a browser. */
export function browser(): string | undefined {
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'chrome-headless-shell'];
  const paths = (process.env.PATH ?? '').split(delimiter).flatMap((folder) => names.map((name) => join(folder, name)));
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Opens a page with more flags; `file:` is its own. @returns What the browser prints and complains of. */
export async function opened(program: string, page: string, ...more: string[]): Promise<{ stdout: string; stderr: string }> {
  const folder = temporaryFolder();
  const file = join(folder, 'page.html');
  await writeFile(file, page);
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', `--user-data-dir=${join(folder, 'profile')}`];
  const args = [...flags, '--virtual-time-budget=1000', ...more, `file://${file}`];
  return promisify(execFile)(program, args, { timeout: 60_000, maxBuffer: 2 ** 26 });
}

/** The page after its scripts would have run, as the browser writes it down. */
export async function rendered(program: string, page: string): Promise<string> {
  return (await opened(program, page, '--dump-dom')).stdout;
}

/** What runs out of a page that is so many pixels wide, pictures that do not show, and how tall it is. */
export async function layoutOf(
  program: string,
  page: string,
  width: number,
): Promise<{ outside: string[]; broken: number; height: number }> {
  const escaped = page.replace(/&/g, '&amp;').replace(/"/g, '&quot;');
  // A window has a least width of its own; a frame has none.
  const measure = `
    const { body, documentElement: root } = document.querySelector('iframe').contentDocument;
    const parts = [...body.querySelectorAll('*')].filter((part) => !part.closest('svg') || part.tagName === 'svg');
    const outside = parts.filter((part) => part.getBoundingClientRect().right > ${width} + 0.5 || part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 0);
    const inks = [...body.querySelectorAll('svg')].filter((svg) => [...svg.querySelectorAll('text')].some((text) => {
      const [a, b] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
      return a.right > b.right + 1 || a.left < b.left - 1 || a.bottom > b.bottom + 1;
    }));
    const pictures = [...body.querySelectorAll('img')];
    document.title = JSON.stringify({
      outside: [...outside, ...inks].map((part) => part.tagName + ' ' + part.textContent.slice(0, 60)),
      broken: pictures.filter((picture) => !picture.complete || picture.naturalWidth === 0).length,
      height: root.scrollHeight,
    });`;
  const frame = `<!DOCTYPE html><title></title><iframe style="width:${width}px;height:800px;border:0" srcdoc="${escaped}" onload="${measure.replace(/&/g, '&amp;').replace(/"/g, '&quot;')}"></iframe>`;
  const dom = await rendered(program, frame);
  return JSON.parse(/<title>([^<]*)<\/title>/.exec(dom)![1]!.replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&amp;/g, '&'));
}
