import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkTrainOptions, mergeOptions, readConfig, readConfigFile, trainFlags } from '../lib/config.ts';
import { attributeIndex, attributes } from '../lib/data/attributes.ts';
import { ComFaceError } from '../lib/errors.ts';
import { nearest } from '../lib/nearest.ts';

const least = { data: 'faces', out: 'run' };

describe('options', () => {
  it('left out are those of the paper', () => {
    expect(checkTrainOptions(least)).toMatchObject({
      ...{ backbone: 'resnet50', size: 224, epochs: 12, temperature: 0.1, learningRate: 4e-4, halveAtEpoch: 10, validation: 0.1 },
      ...{ interPersonal: 1, intraPersonal: 1, target: 'absolute', projection: { out: 128 }, seed: 1, resume: false },
      curriculum: { maxRange: 10, stageEnds: [3, 6, 9, 12] },
      augment: { cropAreaMin: 0.08, hue: 0.2, mean: [0.485, 0.456, 0.406] },
    });
  });

  it('are frozen all the way down', () => {
    const config = checkTrainOptions(least);
    expect([config, config.augment, config.augment.mean, config.curriculum, config.curriculum?.stageEnds].every(Object.isFrozen)).toBe(
      true,
    );
  });

  it('checked twice stay the same', () => {
    const config = checkTrainOptions({ ...least, curriculum: null, augment: { hue: 0 } });
    expect(checkTrainOptions(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });

  it('without a curriculum are written null or none', () => {
    expect(checkTrainOptions({ ...least, curriculum: null }).curriculum).toBeNull();
    expect(checkTrainOptions({ ...least, curriculum: 'none' }).curriculum).toBeNull();
  });

  it.each([
    [{ temprature: 0.1 }, 'Unknown option `temprature`. Did you mean `temperature`?'],
    [{ augment: { cropAreaMn: 0.1 } }, 'Unknown option `augment.cropAreaMn`. Did you mean `augment.cropAreaMin`?'],
    [{ cropAreaMin: 0.1 }, 'Unknown option `cropAreaMin`. Did you mean `augment.cropAreaMin`?'],
    [{ 'learning-rate': 1 }, 'Unknown option `learning-rate`. Did you mean `learningRate`?'],
    [{ curriculum: { stages: [1] } }, 'Unknown option `curriculum.stages`. Did you mean `curriculum.stageEnds`?'],
    [{ qqqqqqqq: 1 }, 'Unknown option `qqqqqqqq`.'],
    [JSON.parse('{"__proto__": 1}'), 'Unknown option `__proto__`.'],
    [{ temperature: -1 }, 'Expected a number from 0.001 to 100 for `temperature` but received -1'],
    [{ temperature: Number.NaN }, 'Expected a number from 0.001 to 100 for `temperature` but received NaN'],
    [{ pairs: 2.5 }, 'Expected an integer from 2 to 8192 for `pairs` but received 2.5'],
    [{ pairs: '32' }, 'Expected an integer from 2 to 8192 for `pairs` but received "32"'],
    [{ seed: 2 ** 53 }, 'Expected an integer from 0 to 9007199254740991 for `seed` but received 9007199254740992'],
    [{ width: 40 }, 'Expected a multiple of 16 from 16 to 128 for `width` but received 40'],
    [
      { backbone: 'vgg' },
      'Expected one of resnet18, resnet34, resnet50, resnet101, resnet50_caffe, vit_b_16, vit_b_16_clip, pcl for `backbone` but received "vgg"',
    ],
    [{ backbone: 'vit_b_16', size: 100 }, 'Expected a multiple of 16 with vit_b_16 for `size` but received 100'],
    [{ resume: 'yes' }, 'Expected true or false for `resume` but received "yes"'],
    [{ data: '' }, 'Expected a path for `data` but received ""'],
    [{ out: undefined }, 'Expected a path for `out` but received undefined'],
    [{ augment: { mean: [0, 0] } }, 'Expected a list of 3 numbers for `augment.mean` but received [0,0]'],
    [{ augment: { mean: [0, 0, 7] } }, 'Expected a number from 0 to 1 for `augment.mean[2]` but received 7'],
    [
      { augment: { cropAreaMin: 0.5, cropAreaMax: 0.4 } },
      'Expected at most `augment.cropAreaMax` (0.4) for `augment.cropAreaMin` but received 0.5',
    ],
    [{ curriculum: { stageEnds: [3, 3] } }, 'Expected increasing epochs for `curriculum.stageEnds` but received [3,3]'],
    [{ curriculum: { stageEnds: [] } }, 'Expected a list of 1 to 1000 integers for `curriculum.stageEnds` but received []'],
    [{ curriculum: 5 }, 'Expected a group of options (maxRange, stageEnds) or none for `curriculum` but received 5'],
    [{ projection: null }, 'Expected a group of options (hidden, out) for `projection` but received null'],
    [{ pairs: 64, pairsPerEpoch: 32 }, 'Expected at least `pairs` (64) for `pairsPerEpoch` but received 32'],
  ])('%j are refused by name', (options, message) => {
    expect(errorOf(() => checkTrainOptions(withLeast(options)))).toMatchObject({
      code: 'INVALID_CONFIG',
      message,
      hint: expect.any(String),
    });
  });

  it.each([
    [{ temperature: -1 }, 'Choose a number from 0.001 to 100; the default is 0.1. Temperature tau of the InfoNCE loss (paper, eq. 1).'],
    [{ pairsPerEpoch: 1 }, 'Choose an integer from 2 to 4294967295, or leave it out. Most pairs in an epoch'],
    [{ target: 'both' }, 'Choose one of absolute, signed; the default is absolute. Change to learn'],
    [{ resume: 'yes' }, 'Write true or false; the default is false. Go on from'],
    [{ out: '' }, 'Give a path. Run folder'],
    [{ augment: { mean: [0] } }, 'Give a list of 3 numbers; the default is 0.485,0.456,0.406. Subtracted'],
    [{ augment: { mean: [0, 0, 7] } }, 'Choose a number from 0 to 1; the default is 0.485,0.456,0.406. Subtracted'],
    [{ augment: { cropAspectMax: 0 } }, 'Choose a number from 1 to 100; the default is 1.33333. Largest width'],
    [{ augment: { cropAreaMax: 0.01 } }, 'Choose at most `augment.cropAreaMax` (0.01). Smallest part'],
    [{ curriculum: { stageEnds: [3, 3] } }, 'Give increasing epochs. Last epoch of each stage'],
    [{ curriculum: 5 }, 'Set `curriculum.maxRange` or `curriculum.stageEnds`, or leave it out. none: '],
    [{ augment: 5 }, 'Set `augment.cropAreaMin`, `augment.cropAreaMax` and others by name, or leave it out. Random changes'],
  ])('%j are answered with what to do', (options, hint) => {
    const found = errorOf(() => checkTrainOptions(withLeast(options))).hint!;
    expect(found.startsWith(hint), found).toBe(true);
    expect(found).toMatch(/^[^\n]*\.$/);
  });

  it('that are no plain data are refused', () => {
    const throwing = new Proxy(
      {},
      {
        get() {
          throw new Error('no');
        },
      },
    );
    for (const options of [{ ...least, curriculum: Promise.resolve() }, throwing]) {
      expect(errorOf(() => checkTrainOptions(options))).toMatchObject({ code: 'INVALID_CONFIG', hint: expect.any(String) });
    }
  });

  it('that are no object are refused', () => {
    expect(errorOf(() => checkTrainOptions(5)).message).toMatch(
      /^Expected a group of options \(data, out, .*\) for `options` but received 5$/,
    );
  });
});

describe('a file of options', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'comface-config-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const read = async (text: string) => {
    const path = join(folder, 'run.yaml');
    await writeFile(path, text);
    return readConfigFile(path);
  };

  it('gives what it holds and no defaults', async () => {
    expect(await read('# a run\ndata: faces\naugment:\n  hue: 0.1\ncurriculum: none\n')).toEqual({
      data: 'faces',
      augment: { hue: 0.1 },
      curriculum: 'none',
    });
    expect(await read('')).toEqual({});
  });

  it('tells the line of each option that it holds', async () => {
    const path = join(folder, 'lines.yaml');
    await writeFile(path, '# a run\nseed: 1\naugment: &a\n  hue: 0.1\n\n  mean:\n    - 0.5\n    - 0.5\n    - 0.5\ncurriculum: none\n');
    const { lineOf } = await readConfig(path);
    expect(['seed', 'augment.hue', 'augment.mean', 'curriculum'].map(lineOf)).toEqual([2, 4, 6, 10]);
    expect(['pairs', 'augment.contrast', 'curriculum.maxRange', 'projection.out'].map(lineOf)).toEqual(Array(4).fill(undefined));
  });

  it('may use anchors', async () => {
    expect(await read('augment: { mean: &m [0.5, 0.5, 0.5], deviation: *m }')).toEqual({
      augment: { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] },
    });
  });

  it.each([
    ['seed: 1\naugment:\n  hue: 0.1\n  cropAreaMn: 1\n', 4, 'Unknown option `augment.cropAreaMn`. Did you mean `augment.cropAreaMin`?'],
    ['seed: 1\n\ntemperature: -1\n', 3, 'Expected a number from 0.001 to 100 for `temperature` but received -1'],
    ['augment:\n  mean:\n    - 0.5\n    - 2\n    - 0.5\n', 4, 'Expected a number from 0 to 1 for `augment.mean[1]` but received 2'],
    ['seed:\n', 1, 'Expected an integer from 0 to 9007199254740991 for `seed` but received null'],
    ['epochs: 1\nepochs: 2\n', 2, 'Map keys must be unique'],
    ['a: 1\nb: [1, 2\n', 3, ''],
    ['seed: !!js/function "x"\n', 1, 'Unresolved tag: tag:yaml.org,2002:js/function'],
    ['epochs: 1\n---\nepochs: 2\n', 2, 'Source contains multiple documents; please use YAML.parseAllDocuments()'],
    ['- 1\n', 1, 'Expected a group of options'],
    ['seed: *none\n', 1, 'Unresolved alias (the anchor must be set before the alias): none'],
  ])('%j is refused with its line', async (text, line, message) => {
    const error = await rejectionOf(read(text));
    expect(error.code).toBe('INVALID_CONFIG');
    expect(error.message.startsWith(`${join(folder, 'run.yaml')}:${line}: ${message}`), error.message).toBe(true);
  });

  it('that grows without end by aliases is refused', async () => {
    const bomb = ['a: &a0 [1, 1]', ...Array.from({ length: 20 }, (_, i) => `b${i}: &a${i + 1} [*a${i}, *a${i}, *a${i}]`)].join('\n');
    expect((await rejectionOf(read(bomb))).message).toContain('Expected fewer aliases');
  });

  it.each([
    ['of 2,000 levels', `a: ${'['.repeat(2000)}`, ':1: Expected at most 16 levels'],
    ['of 1,500 options', 'a:\n'.repeat(1500), ':500: Expected at most 2000 words and signs'],
    ['of more than 16 KiB', '#'.repeat(20_000), ':1: Expected at most 16 KiB of options'],
    ['with a group merged into itself again and again', 'a: {!!merge <<: {k: 1}}', ':1: Unresolved tag'],
  ])('%s is refused before it is parsed', async (_, text, message) => {
    expect((await rejectionOf(read(text))).message).toContain(`run.yaml${message}`);
  });

  it('without an end is refused', async () => {
    expect((await rejectionOf(readConfigFile('/dev/zero'))).message).toBe('/dev/zero:1: Expected at most 16 KiB of options');
  });

  it('that is missing is named', async () => {
    expect(await rejectionOf(readConfigFile(join(folder, 'none.yaml')))).toMatchObject({
      code: 'IO',
      message: expect.stringContaining('none.yaml'),
    });
  });
});

describe('the flags', () => {
  const command = () => {
    const program = new Command().exitOverride();
    for (const { flag, description, parse } of trainFlags()) program.option(flag, description, parse);
    return program;
  };
  const parse = (...words: string[]) => command().parse(words, { from: 'user' }).opts();

  it('are one for each option, with a text and the default', () => {
    const flags = trainFlags();
    expect(flags.find(({ flag }) => flag === '--learning-rate <number>')?.description).toBe(
      'Learning rate of Adam (paper: 4e-4) (default: 0.0004)',
    );
    expect(flags.find(({ flag }) => flag === '--augment.crop-area-min <number>')?.path).toEqual(['augment', 'cropAreaMin']);
    expect(flags.every(({ description }) => description.length > 5 && !description.includes('undefined'))).toBe(true);
    expect(command().helpInformation()).toContain('--curriculum.stage-ends <list>');
    expect(flags.filter(({ description }) => /\d{7}/.test(description))).toEqual([]);
  });

  it('of names say in their text which there are', () => {
    for (const name of ['backbone', 'target', 'precision', 'device'] as const) {
      const { description } = trainFlags().find(({ path }) => path.join('.') === name)!;
      const { hint } = errorOf(() => checkTrainOptions({ ...least, [name]: '?' }));
      for (const choice of /^Choose one of (.*); the default/.exec(hint!)![1]!.split(', '))
        expect(description).toMatch(new RegExp(`\\b${choice}\\b`));
    }
  });

  it('stand over the file, and the file over the defaults', () => {
    const flags = parse(
      '--learning-rate',
      '1e-3',
      '--augment.crop-area-min',
      '0.2',
      '--curriculum.stage-ends',
      '1,2',
      '--resume',
      '--target',
      'signed',
    );
    const config = checkTrainOptions(
      mergeOptions({ ...least, learningRate: 1, epochs: 5, augment: { hue: 0 }, curriculum: 'none' }, flags),
    );
    expect(config).toMatchObject({
      learningRate: 1e-3,
      epochs: 5,
      resume: true,
      target: 'signed',
      augment: { cropAreaMin: 0.2, hue: 0, contrast: 0.8 },
    });
    expect(config.curriculum).toEqual({ maxRange: 10, stageEnds: [1, 2] });
  });

  it('can take back what the file says', () => {
    const flags = parse('--resume', 'false', '--curriculum', 'none');
    expect(checkTrainOptions(mergeOptions({ ...least, resume: true, curriculum: { maxRange: 4 } }, flags))).toMatchObject({
      resume: false,
      curriculum: null,
    });
  });

  it('that do not fit are refused like options', () => {
    expect(errorOf(() => checkTrainOptions(mergeOptions(least, parse('--seed', 'abc')))).message).toBe(
      'Expected an integer from 0 to 9007199254740991 for `seed` but received "abc"',
    );
    expect(errorOf(() => checkTrainOptions(mergeOptions(least, parse('--resume', 'maybe')))).message).toContain('true or false');
  });

  it('leave the file as it was and pass over names that are no option', () => {
    const file = { augment: { hue: 0.1 } };
    expect(mergeOptions(file, { config: 'x.yaml', 'augment.hue': 0.3, epochs: undefined })).toEqual({ augment: { hue: 0.3 } });
    expect(file).toEqual({ augment: { hue: 0.1 } });
  });
});

describe('names', () => {
  it('are suggested only when similar', () => {
    expect(nearest('Smilling', attributes)).toBe('Smiling');
    expect(nearest('zzzz', attributes)).toBeUndefined();
  });

  it('of attributes are 43, each with its number', () => {
    expect(attributes.length).toBe(43);
    expect(new Set(attributes).size).toBe(43);
    expect([attributeIndex('weight'), attributeIndex('5_o_Clock_Shadow'), attributeIndex('Young')]).toEqual([0, 3, 42]);
    expect(errorOf(() => attributeIndex('wearing_hats'))).toMatchObject({ code: 'INVALID_INPUT', hint: 'Did you mean Wearing_Hat?' });
  });
});

// Not by spreading: a key __proto__ must stay one.
function withLeast(options: object): object {
  for (const [name, value] of Object.entries(least)) if (!Object.hasOwn(options, name)) Object.assign(options, { [name]: value });
  return options;
}

function errorOf(call: () => unknown): ComFaceError {
  try {
    call();
  } catch (error) {
    if (error instanceof ComFaceError) return error;
    throw error;
  }
  throw new Error('no error');
}

async function rejectionOf(promise: Promise<unknown>): Promise<ComFaceError> {
  const error = await promise.then(
    () => new Error('no error'),
    (cause: unknown) => cause,
  );
  if (error instanceof ComFaceError) return error;
  throw error;
}
