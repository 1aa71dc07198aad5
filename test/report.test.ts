// The page of the demo: nothing runs in it, nothing leaves it, nothing in it is not a number.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { barChart, lineChart, scatterChart } from '../lib/report/charts.ts';
import { dataUri, escapeHtml } from '../lib/report/html.ts';
import { type DemoReport, demoReport } from '../lib/report/report.ts';

const hostile = `</title></style></svg><script>alert(1)</script><img src=x onerror='a()'>"&`;
const text = { title: 'title', xLabel: 'x', yLabel: 'y' };

function example(name: string): DemoReport {
  const jpeg = Uint8Array.of(0xff, 0xd8, 0xff, 0xd9);
  return {
    title: name,
    commit: name,
    machine: { cpu: name, cores: 2, node: name },
    settings: [[name, name]],
    seconds: { generate: 1, train: 200, evaluate: 3, total: 204 },
    curves: {
      step: [1, 2, 3],
      inter: [3, 2, 1],
      intra: [9, 4, 1],
      stages: [
        { fromStep: 1, range: 10 },
        { fromStep: 3, range: 7.5 },
      ],
      chanceInter: 4,
    },
    tasks: [
      {
        name,
        unit: name,
        rows: [
          { method: 'ComFace', mae: 0.5, correlation: 0.9 },
          { method: name, mae: 0.25, correlation: 0.5 },
        ],
        scatter: { truth: [1, 2, 3], estimate: [1, 2, 2] },
        pairs: [{ x: jpeg, y: jpeg, truth: -2.04, estimate: 0.01 }],
      },
    ],
    target: { required: 0.1, margins: [[name, 0.4]] },
  };
}

/** Every number in an attribute that places or sizes something. */
function coordinates(svg: string): string[] {
  return [...svg.matchAll(/ (?:d|x|y|cx|cy|r|width|height|viewBox|transform|x1|x2|y1|y2)="([^"]*)"/g)].map(([, value]) => value!);
}

function expectFinite(svg: string): void {
  expect(svg.startsWith('<svg ')).toBe(true);
  for (const value of coordinates(svg)) {
    expect(value).not.toMatch(/NaN|Infinity|undefined|e[+-]?\d/);
    for (const number of value.match(/-?\d+(\.\d+)?/g) ?? []) expect(Math.abs(Number(number))).toBeLessThan(2000);
  }
  for (const [, width] of svg.matchAll(/<rect[^>]* width="([^"]*)"/g)) expect(Number(width)).toBeGreaterThanOrEqual(0);
}

describe('the page', () => {
  test('has no script, a policy that forbids everything but its own style and data: pictures, and no address', () => {
    const page = demoReport(example('demo'));
    expect(page).not.toMatch(/<script|<link|<iframe|javascript:|\son\w+=/i);
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"`);
    expect(page.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|url\(|@import/);
    expect([...page.matchAll(/<img[^>]* src="([^"]*)"/g)].map(([, src]) => src)).toEqual([
      'data:image/jpeg;base64,/9j/2Q==',
      'data:image/jpeg;base64,/9j/2Q==',
    ]);
  });

  test('escapes a hostile name wherever one can stand', () => {
    const page = demoReport(example(hostile));
    expect(page).not.toMatch(/<script|<img src=x|<\/style><\/svg>/i);
    // The same tags as with a harmless name: nothing was opened or closed by the text.
    const tags = (html: string) => html.match(/<\/?[a-z][a-z0-9]*/gi);
    expect(tags(page)).toEqual(tags(demoReport(example('demo'))));
    expect(page).toContain('&#60;script&#62;');
  });

  test('puts the best of each column in bold, signs the changes and tells the margin', () => {
    const page = demoReport(example('demo'));
    expect(page).toContain('<td class="number">0.500</td><td class="number"><strong>0.900</strong></td>');
    expect(page).toContain('<td class="number"><strong>0.250</strong></td><td class="number">0.500</td>');
    expect(page).toContain('true <strong>−2.0</strong></span><span>estimated <strong>0.0</strong>');
    expect(page).toContain('Target reached.');
    expect(page).toContain('demo: <strong>+0.400</strong>');
  });

  test('says that a target was missed, and does not reach one without tasks', () => {
    const data = example('demo');
    expect(
      demoReport({
        ...data,
        target: {
          required: 0.1,
          margins: [
            ['a', 0.4],
            ['b', 0.05],
          ],
        },
      }),
    ).toContain('Target not reached.');
    expect(demoReport({ ...data, target: { required: 0.1, margins: [['a', Number.NaN]] } })).toContain('Target not reached.');
    expect(demoReport({ ...data, target: { required: 0.1, margins: [] } })).toContain('Target not reached.');
  });

  test('is whole without tasks, steps or finite numbers', () => {
    const data = example('demo');
    const empty: DemoReport = { ...data, tasks: [], curves: { step: [], inter: [], intra: [], stages: [], chanceInter: Number.NaN } };
    const broken: DemoReport = {
      ...data,
      tasks: data.tasks.map((task) => ({
        ...task,
        rows: [{ method: 'm', mae: Number.NaN, correlation: Number.NaN }],
        scatter: { truth: [], estimate: [] },
      })),
    };
    for (const page of [demoReport(empty), demoReport(broken)]) {
      expect(page).not.toMatch(/NaN|undefined|Infinity/);
      for (const [svg] of page.matchAll(/<svg[\s\S]*?<\/svg>/g)) expectFinite(svg);
    }
  });
});

describe('a chart', () => {
  // Doubles of every size, also those that are no number.
  const values = fc.array(fc.oneof(fc.double(), fc.constant(0), fc.integer({ min: -20, max: 20 })), { maxLength: 12 });

  test('has finite coordinates inside its frame for any data: empty, constant, huge, tiny or not a number', () => {
    fc.assert(
      fc.property(values, values, (x, y) => {
        const bands = x.map((from) => ({ from, label: 'b' }));
        expectFinite(
          lineChart(
            [
              { name: 'a', x, y },
              { name: 'b', x, y: x, dashed: true },
            ],
            text,
            { smooth: 0.3, bands },
          ),
        );
        expectFinite(scatterChart(x, y, text));
        expectFinite(
          barChart(
            y.map((value) => ({ name: 'n', value })),
            text,
          ),
        );
      }),
      { numRuns: 500 },
    );
  });

  test('of one value or of nothing says what it can', () => {
    expect(lineChart([], text)).toContain('no data');
    expect(scatterChart([Number.NaN], [1], text)).toContain('no data');
    const constant = lineChart([{ name: 'a', x: [1, 2, 3], y: [5, 5, 5] }], text);
    expectFinite(constant);
    expect(constant).not.toContain('no data');
    expectFinite(lineChart([{ name: 'a', x: [7], y: [5] }], text));
  });

  test('has round ticks that hold all values, without a negative zero', () => {
    const ticks = (svg: string) => [...svg.matchAll(/text-anchor="end"[^>]*>([^<]*)</g)].map(([, tick]) => tick);
    expect(ticks(lineChart([{ name: 'a', x: [0, 6.5], y: [-0.31, 0.42] }], text))).toEqual(['−0.4', '−0.2', '0.0', '0.2', '0.4', '0.6']);
    expect(ticks(lineChart([{ name: 'a', x: [0, 6.5], y: [0, 41] }], text))).toEqual(['0', '20', '40', '60']);
  });

  test('of a long run stays small', () => {
    const x = Float64Array.from({ length: 100_000 }, (_, i) => i);
    expect(lineChart([{ name: 'a', x, y: x.map(Math.sqrt) }], text, { smooth: 0.05 }).length).toBeLessThan(12_000);
    expect(scatterChart(x, x, text).length).toBeLessThan(60_000);
  });

  test('reads its words escaped', () => {
    const words = { title: hostile, xLabel: hostile, yLabel: hostile };
    const charts = [
      lineChart([{ name: hostile, x: [1, 9], y: [1, 2] }], words, { bands: [{ from: 1, label: '<b>' }] }),
      scatterChart([1], [1], words),
      barChart([{ name: hostile, value: 1 }], words),
    ];
    for (const chart of charts) expect(chart).not.toMatch(/<script|<img|<b>/);
  });
});

describe('the helpers', () => {
  test('escape what ends a text or an attribute, and encode bytes of a view', () => {
    expect(escapeHtml(`<a href="x" b='y'>&\``)).toBe('&#60;a href=&#34;x&#34; b=&#39;y&#39;&#62;&#38;&#96;');
    expect(dataUri(Uint8Array.of(9, 1, 2, 3, 9).subarray(1, 4))).toBe('data:image/jpeg;base64,AQID');
  });
});
