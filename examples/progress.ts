// Draws the progress of a run as a picture: reads log.jsonl, which a run writes one JSON event a line, and writes an SVG file.
//   node progress.ts --run run           after the run, or while it trains; open run/progress.svg in a browser
//   node progress.ts --run run --watch   draws it again every two seconds until the run has ended
// The same events come from `for await (const event of train(...))`. A loss that a run leaves out is null in the log, and has no panel.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { StepEvent, TrainEvent } from 'comface';

const { values } = parseArgs({
  options: { run: { type: 'string', default: 'run' }, out: { type: 'string' }, watch: { type: 'boolean', default: false } },
});
const file = values.out ?? join(values.run, 'progress.svg');
const [width, height, left, top, gap] = [760, 150, 70, 34, 62];

type Point = [step: number, value: number];

async function readEvents(): Promise<TrainEvent[]> {
  const text = await readFile(join(values.run, 'log.jsonl'), 'utf8').catch((error: Error) => {
    console.error(`There is no run to draw: ${error.message}\nTrain first (train.ts), or name the folder of a run: --run FOLDER`);
    process.exit(1);
  });
  const whole = text.slice(0, text.lastIndexOf('\n') + 1); // a run that trains may be in the middle of a line
  return whole.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as TrainEvent]));
}

/** One line over the steps, with its own scale from 0 to the largest value. */
function panel(title: string, points: Point[], steps: number, index: number): string {
  const y0 = top + index * (height + gap);
  const most = Math.max(...points.map(([, value]) => value)) || 1;
  const at = ([step, value]: Point) => [left + (width * step) / steps, y0 + height * (1 - value / most)].map((v) => v.toFixed(1));
  const grid = [0, 0.5, 1].map((share) => {
    const y = y0 + height * (1 - share);
    return `<path d="M${left} ${y}h${width}" stroke="#ddd"/><text x="${left - 8}" y="${y + 4}" text-anchor="end">${(share * most).toPrecision(3)}</text>`;
  });
  const dots = points.map((point) => `<circle cx="${at(point)[0]}" cy="${at(point)[1]}" r="1.6"/>`);
  return [
    `<g><text x="${left}" y="${y0 - 10}" font-weight="bold">${title}</text>`,
    ...grid,
    `<text x="${left}" y="${y0 + height + 18}">0</text><text x="${left + width}" y="${y0 + height + 18}" text-anchor="end">step ${steps}</text>`,
    `<polyline points="${points.map((point) => at(point).join(',')).join(' ')}" fill="none" stroke="#1f6feb" stroke-opacity="0.5"/>`,
    `<g fill="#1f6feb">${dots.join('')}</g></g>`,
  ].join('\n');
}

function chart(events: TrainEvent[]): string {
  const logged = events.filter((event): event is StepEvent => event.type === 'step');
  const steps = logged[0]?.steps ?? 1;
  const losses = (name: 'inter' | 'intra') => logged.flatMap((event): Point[] => (event[name] === null ? [] : [[event.step, event[name]]]));
  const unseen = events.flatMap((event): Point[] => (event.type === 'validation' ? [[event.step, event.mae]] : []));
  const all: [string, Point[]][] = [
    ['InfoNCE loss', losses('inter')],
    ['Squared error of the change, (steps of alpha)²', losses('intra')],
    ['Mean absolute error on people it has not seen, steps of alpha', unseen],
  ];
  const panels = all.filter(([, points]) => points.length > 0).map(([title, points], i) => panel(title, points, steps, i));
  const size = `width="${left + width + 30}" height="${top + panels.length * (height + gap)}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n${panels.join('\n')}\n</svg>\n`;
}

for (let isOver = false; !isOver; ) {
  const events = await readEvents();
  await writeFile(file, chart(events));
  isOver = !values.watch || events.at(-1)?.type === 'end';
  if (!isOver) await setTimeout(2000);
}
console.log(file);
