// Every graph of a ResNet's training, of a vision transformer's, of PCL's network and of whole generators has a plan of cuDNN's for an H200 and an
// A100, by the real cuDNN and without a GPU: it plans for a device that is described to it (docs: CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR). A plan
// proves support, not results and not speed.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { synthesisOf } from '../../bench/generators.mjs';
import { type BackboneName, backbone, embeddingWidth } from '../../lib/models/backbone.ts';
import { comfaceGraph } from '../../lib/models/heads.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import { native } from '../../lib/native.ts';
import { sharedFolder } from '../faces.ts';
import { builtBackend, emptyDriver, librariesFolder } from '../native/cuda/machine.ts';

const folder = sharedFolder();
const devices = fileURLToPath(new URL('../native/cuda/devices/', import.meta.url));
const driver = builtBackend() && librariesFolder ? emptyDriver() : undefined;
const kMinutes = 6;

/** Why nothing is planned here, and what to do. */
const reason = (() => {
  if (!builtBackend()) return 'the CUDA backend was not built: node scripts/headers.mjs, then npm run build:native -- --cuda on (nvcc 13)';
  if (!librariesFolder)
    return 'no cuDNN to plan with: node scripts/headers.mjs --libraries, then COMFACE_CUDA_LIBRARIES=native/build/nvidia';
  return "the stand-in for the driver wants the toolkit's cuda.h: install CUDA 13's toolkit";
})();

function layersOf(name: BackboneName): LayerRecord[] {
  const embedding = embeddingWidth(name, { size: 224 });
  const heads = { embedding, projection: { hidden: embedding, out: 128 }, temperature: 0.1, interPersonal: 1, intraPersonal: 1 };
  return comfaceGraph(backbone(name, { size: 224, width: 64 }), heads);
}

/** A step of 22 pairs. */
const planned = (name: BackboneName, precision: string, device: string, deterministic: boolean) =>
  plannedGraph({ layers: layersOf(name), batch: 66, training: true, precision, threads: 1, parts: 3, deterministic }, device);

let graphs = 0;

/** Plans in a process of its own: cuDNN wants to find a driver when it is opened. */
async function plannedGraph(options: object, device: string, cache = device) {
  const graph = join(folder, `graph-${graphs++}.json`);
  writeFileSync(graph, JSON.stringify(options));
  const code = `
    const { readFileSync } = require('node:fs');
    const [addon, library, graph, device] = process.argv.slice(1);
    const text = (file) => readFileSync(file, 'utf8').trim();
    require(addon).planFor(library, JSON.parse(text(graph)), text(device)).then((plan) => process.stdout.write(JSON.stringify(plan)));`;
  const env = { ...process.env, LD_LIBRARY_PATH: driver!, COMFACE_CACHE: join(folder, `cache-${cache}`) };
  const args = ['-e', code, join(native().folder, 'comface.node'), builtBackend()!, graph, join(devices, `${device}.json`)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { env, maxBuffer: 1 << 26 });
  const { sizeBytes, choices } = JSON.parse(stdout) as { sizeBytes: number; choices: string };
  const lines = choices
    .trim()
    .split('\n')
    .map((line) => line.split('\t') as [choice: string, key: string]);
  const without = lines.filter(([choice]) => choice === '-').map(([, key]) => key);
  return { gibibytes: sizeBytes / 2 ** 30, count: lines.length, without, plans: new Map(lines.map(([choice, key]) => [key, choice])) };
}

/** Kernel, stride, pad, channels and sizes of each convolution. */
function shapes(name: BackboneName): Set<string> {
  const layers = new Map(layersOf(name).map((layer) => [layer.name, layer]));
  const channelsOf = (layer: LayerRecord): number => {
    if (layer.op === 'input') return layer.channels;
    if (layer.op === 'conv') return layer.out;
    return channelsOf(layers.get('input' in layer ? layer.input : layer.inputs[0])!);
  };
  const found = new Set<string>();
  for (const layer of layers.values()) {
    if (layer.op === 'conv') found.add([channelsOf(layers.get(layer.input)!), layer.out, layer.kernel, layer.stride, layer.pad].join());
  }
  return found;
}

describe.skipIf(driver === undefined)(driver ? 'cuDNN plans, for a GPU that is not here,' : `cuDNN plans: ${reason}`, () => {
  /** More graphs than so many of cuDNN's; of a vision transformer those of the patches' convolution alone. */
  const least = { resnet50: 60, resnet18: 30, vit_b_16: 1, pcl: 30 } as const;
  const cases = (['resnet50', 'resnet18', 'vit_b_16', 'pcl'] as const).flatMap((name) =>
    (['bf16', 'fp16', 'fp32'] as const).flatMap((precision) =>
      (['h200', 'a100'] as const).map((device) => [name, precision, device] as const),
    ),
  );
  test.each(cases)('every graph of a %s in %s on an %s', { timeout: kMinutes * 60_000 }, async (name, precision, device) => {
    const { gibibytes, count, without } = await planned(name, precision, device, false);
    // In 16 bits each fused graph too, by kernels of the device's own generation: those are asked for as `native`, and have no other plan.
    expect(without).toEqual([]);
    expect(count).toBeGreaterThan(least[name]);
    expect(gibibytes).toBeGreaterThan(0.5);
  });

  test.each(['h200', 'a100'])(
    'only sums have no plan on an %s where they have to be in order',
    { timeout: kMinutes * 60_000 },
    async (device) => {
      const { count, without } = await planned('resnet50', 'bf16', device, true);
      expect(without.filter((key) => !/ (sum|statistics),/.test(key))).toEqual([]);
      // An A100 has kernels that add up in order, at least in backward.
      if (device === 'a100') expect(without.filter((key) => / sum,/.test(key))).toEqual([]);
      expect(count - without.length).toBeGreaterThan(45);
    },
  );

  /** Published shapes in both number types that generators run in. GiB for a picture at a time. */
  const generators = (['h200', 'a100'] as const).flatMap(
    (device) =>
      [
        ['stylegan1', 'fp32', device, 0.5],
        ['stylegan3-t', 'fp32', device, 2],
        ['stylegan3-t', 'fp16', device, 0.6],
        ['stylegan3-r', 'fp32', device, 3],
        ['stylegan3-r', 'fp16', device, 1],
      ] as const,
  );
  test.each(generators)('every convolution of a %s of 1024 pixels in %s on an %s, in %d GiB', async (which, precision, device, most) => {
    const layers = synthesisOf({ which, size: 1024, most: 512 });
    const { gibibytes, count, without } = await plannedGraph({ layers, batch: 1, training: false, precision, threads: 1 }, device);
    expect(without).toEqual([]);
    expect(count).toBeGreaterThan(10);
    expect(gibibytes).toBeGreaterThan(most / 8);
    expect(gibibytes).toBeLessThan(most);
  });

  test('layers in fp32 of a graph in fp16 have the plans of one in fp32, which round no factor', async () => {
    const layers = synthesisOf({ which: 'stylegan3-t', size: 1024, most: 512 });
    const of = (precision: 'fp32' | 'fp16') =>
      plannedGraph({ layers, batch: 1, training: false, precision, threads: 1 }, 'h200', precision);
    const [exact, half] = await Promise.all([of('fp32'), of('fp16')]);
    const shared = [...half.plans].filter(([key]) => !key.includes('fp16'));
    expect(shared.length).toBeGreaterThan(1);
    for (const [key, choice] of shared) expect(choice, key).toBe(exact.plans.get(key));
    expect(half.plans.size).toBeGreaterThan(shared.length + 5);
  });

  test('a ResNet-101 has the shapes of a ResNet-50, and a ResNet-34 those of a ResNet-18', () => {
    expect(shapes('resnet101')).toEqual(shapes('resnet50'));
    expect(shapes('resnet34')).toEqual(shapes('resnet18'));
  });
});
