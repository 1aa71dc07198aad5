// The skeleton of a self-contained page: no script, nothing loaded from anywhere, light and dark, screen and paper.
// Text becomes HTML only through `escapeHtml`.
import { printable } from '../errors.js';

/** Text as it may stand between tags and inside a quoted attribute; what would act on the words around it is shown instead. */
export function escapeHtml(text: string): string {
  return printable(text).replace(/[&<>"'`]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** A picture as a data: URI. */
export function dataUri(bytes: Uint8Array, type = 'image/jpeg'): string {
  return `data:${type};base64,${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')}`;
}

const style = `
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2126; --soft: #59636d; --line: #d9dee3; --card: #f5f7f8; --good: #14532d;
  --series-0: #134b7f; --series-1: #d9772b; --series-2: #8ab6a3; --series-3: #8c2f5b; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e8ebee; --soft: #a3adb7; --line: #363d44; --card: #1e2327; --good: #86d9a4;
  --series-0: #8ec5f7; --series-1: #e58a3c; --series-2: #4f8a75; --series-3: #f0a6cb; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --card: #fff; --good: #000;
  --series-0: #134b7f; --series-1: #d9772b; --series-2: #8ab6a3; --series-3: #8c2f5b; } section, figure, table { break-inside: avoid; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; } h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p, ul { max-width: 44rem; margin: .6rem 0; } ul { padding-left: 1.2rem; }
.soft { color: var(--soft); font-size: .9rem; } .good { color: var(--good); font-weight: 700; }
.verdict { border-left: 4px solid var(--series-0); background: var(--card); padding: .75rem 1rem; margin: 1rem 0; }
.verdict p { margin: .2rem 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem 2rem; align-items: start; }
figure { margin: .5rem 0; } figcaption { color: var(--soft); font-size: .9rem; margin-top: .25rem; }
svg { display: block; width: 100%; height: auto; max-width: 34rem; color: var(--ink); }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9rem), 1fr)); gap: .75rem; }
.pairs.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, max(13rem, 30%)), 1fr)); }
.pair { margin: 0; background: var(--card); padding: .5rem; border-radius: .4rem; }
.pair div { display: flex; gap: .25rem; margin-bottom: .25rem; } .pair img { width: calc(50% - .125rem); aspect-ratio: 1; border-radius: .2rem; display: block; }
.pair figcaption { display: flex; justify-content: space-between; flex-wrap: wrap; gap: 0 .75rem; color: var(--ink); font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; max-width: 44rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); } td.number, th.number { text-align: right; white-space: nowrap; } tbody th { font-weight: 400; min-width: 7.5rem; }
.numbers th, .numbers td { overflow-wrap: break-word; vertical-align: bottom; } .numbers th.number { white-space: normal; } .numbers tbody th { min-width: 3rem; }
@media (max-width: 30rem) { .numbers { font-size: .8rem; } .numbers th, .numbers td { padding: .3rem .2rem; } }
`;

/**
 * A whole page.
 * @param title Plain text.
 * @param body HTML, already escaped.
 */
export function htmlPage(title: string, body: string): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
${body}
</body>
</html>
`;
}
