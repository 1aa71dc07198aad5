// The options of a training run, described once: types, defaults, YAML, CLI flags and the texts of --help come from `trainSchema`.
// A new option is one line there; its rule in messages is read from the schema, so keep to the kinds that `ruleOf` knows.
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Document, isAlias, isMap, isScalar, isSeq, Lexer, LineCounter, Parser, parseDocument } from 'yaml';
import { z } from 'zod';
import { checkText } from './check.js';
import { ComFaceError, messageOf, show } from './errors.js';
import { devices, precisions } from './native.js';
import { didYouMean, nearest } from './nearest.js';

/** S_max of the paper (section 4.1): alpha runs from -5 to 5. */
export const kMaxRange = 10;

// The parser of YAML is slow, and quadratic in the keys of a group: at these sizes the worst text takes it some 50 ms.
const kConfigBytes = 1 << 14;
const kConfigWords = 2000;
// It calls itself for each level. Thousands of levels end the stack, and with it at times the whole process.
const kConfigDepth = 16;
const kAliases = 50;
const kStages = 1000;
// Longer names are not repeated whole.
const kNameLetters = 64;

const integer = (low: number, high: number) => z.int().min(low).max(high);
const number = (low: number, high: number) => z.number().min(low).max(high);
const share = () => number(0, 1);
const path = () =>
  z
    .string()
    .min(1)
    .regex(/^[^\0]*$/); // NUL ends it for the system
const channels = (low: number, high: number) => z.tuple([number(low, high), number(low, high), number(low, high)]);

const projection = z.strictObject({
  hidden: integer(1, 65536)
    .optional()
    .describe('Width of the hidden layer of the projection head (SimCLR; left out: as wide as the embedding)'),
  out: integer(1, 65536).default(128).describe('Width of the projection z (SimCLR)'),
});

const curriculum = z.strictObject({
  maxRange: number(0.001, 1e6)
    .default(kMaxRange)
    .describe('S_max, the largest |alpha_y - alpha_x| of a pair in the first stage (paper, eq. 2)'),
  stageEnds: z
    .array(integer(1, 1_000_000))
    .min(1)
    .max(kStages)
    .refine((ends) => ends.every((end, i) => i === 0 || end > ends[i - 1]!), { error: 'increasing epochs' })
    .default([3, 6, 9, 12])
    .describe('Last epoch of each stage, e_1,e_2,...; in stage t the range is S_max / t (paper, section 4.1)'),
});

const augment = z
  .strictObject({
    cropAreaMin: number(0.0001, 1).default(0.08).describe("Smallest part of the picture's area in a crop (SimCLR)"),
    cropAreaMax: number(0.0001, 1).default(1).describe("Largest part of the picture's area in a crop (SimCLR)"),
    cropAspectMax: number(1, 100)
      .default(4 / 3)
      .describe('Largest width over height of a crop; the smallest is its inverse (SimCLR: 4/3)'),
    flipProbability: share().default(0.5).describe('Probability of a horizontal flip (SimCLR)'),
    jitterProbability: share().default(0.8).describe('Probability of the color jitter (SimCLR)'),
    brightness: share().default(0.8).describe('b of the color jitter: brightness is scaled by 1 - b to 1 + b (SimCLR, strength 1)'),
    contrast: share().default(0.8).describe('c of the color jitter: contrast is scaled by 1 - c to 1 + c (SimCLR, strength 1)'),
    saturation: share().default(0.8).describe('s of the color jitter: saturation is scaled by 1 - s to 1 + s (SimCLR, strength 1)'),
    hue: number(0, 0.5).default(0.2).describe('h of the color jitter: hue is turned by -h to h full turns (SimCLR, strength 1)'),
    grayscaleProbability: share().default(0.2).describe('Probability that a view is gray (SimCLR)'),
    mean: channels(0, 1).default([0.485, 0.456, 0.406]).describe('Subtracted from red,green,blue, which run from 0 to 1 (ImageNet)'),
    deviation: channels(0.001, 100).default([0.229, 0.224, 0.225]).describe('What red,green,blue are then divided by (ImageNet)'),
  })
  .superRefine(({ cropAreaMin, cropAreaMax }, context) => {
    if (cropAreaMin > cropAreaMax) fail(context, 'cropAreaMin', `at most \`augment.cropAreaMax\` (${cropAreaMax})`);
  });

const fields = z.strictObject({
  data: path().describe('Folder of pictures: shards, as comface generate makes, several of them joined, or files with a manifest.jsonl'),
  out: path().describe('Run folder, for the log and the checkpoints; made when missing'),
  seed: integer(0, Number.MAX_SAFE_INTEGER).default(1).describe('Decides every random draw of the run'),
  backbone: z
    .enum(['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet50_caffe', 'vit_b_16', 'vit_b_16_clip', 'pcl'])
    .default('resnet50')
    .describe(
      'Network f: resnet18, resnet34, resnet50, resnet101, vit_b_16, or one that weights of others need: resnet50_caffe, vit_b_16_clip, pcl (paper: resnet50)',
    ),
  width: integer(16, 128)
    .multipleOf(16)
    .default(64)
    .describe(
      'Channels of the first stage of a ResNet or of pcl, or of each of the 12 heads of a ViT, a multiple of 16 (torchvision, timm, PCL: 64)',
    ),
  size: integer(16, 512).default(224).describe('Edge of a view in pixels, with a ViT a multiple of 16 (paper: 224)'),
  pairs: integer(2, 8192).default(32).describe('N, the pairs in a step, three views each (paper: 1024 over 32 GPUs)'),
  epochs: integer(1, 1_000_000).default(12).describe('Times through the data (paper: 12)'),
  pairsPerEpoch: integer(2, 2 ** 32 - 1)
    .optional()
    .describe('Most pairs in an epoch (left out: one for each training picture)'),
  temperature: number(0.001, 100).default(0.1).describe('Temperature tau of the InfoNCE loss (paper, eq. 1)'),
  interPersonal: number(0, 1e6).default(1).describe('Weight of the InfoNCE loss (paper: 1)'),
  intraPersonal: number(0, 1e6).default(1).describe('Weight of the squared error of the change (paper: 1)'),
  target: z
    .enum(['absolute', 'signed'])
    .default('absolute')
    .describe('Change to learn: absolute is |alpha_y - alpha_x| (paper, table 7), signed alpha_y - alpha_x'),
  projection: projection.prefault({}).describe('Projection head g'),
  learningRate: number(0, 100).default(4e-4).describe('Learning rate of Adam (paper: 4e-4)'),
  halveAtEpoch: integer(1, 1_000_000).default(10).describe('Last epoch with the full learning rate; half of it after (paper: 10)'),
  beta1: number(0, 0.999999).default(0.9).describe('Decay of the first moment (Adam)'),
  beta2: number(0, 0.999999).default(0.999).describe('Decay of the second moment (Adam)'),
  epsilon: number(1e-16, 1).default(1e-8).describe('Added to the root of the second moment (Adam)'),
  weightDecay: number(0, 1).default(0).describe('Weight decay of Adam, added to the gradient (paper: none stated)'),
  curriculum: z
    .pipe(
      z.transform((value: z.input<typeof curriculum> | 'none' | null) => (value === 'none' ? null : value)),
      curriculum.nullable(),
    )
    .prefault({})
    .describe(`none: pairs at most ${kMaxRange} apart in every epoch (left out: from far to near pairs; paper, section 3.3)`),
  augment: augment.prefault({}).describe('Random changes of a view (SimCLR without blur)'),
  validation: number(0, 0.99).default(0.1).describe('Share of subjects kept out of training, to validate on after each epoch (paper: 0.1)'),
  precision: z
    .enum(precisions)
    .default('auto')
    .describe(
      'Number type of activations: auto (bf16 where the device is made for it, else fp32), fp32, bf16 or fp16 (CUDA only); weights are fp32',
    ),
  device: z
    .enum(devices)
    .default('auto')
    .describe('Where it runs: auto (CUDA if it works, else the CPU), cpu, cuda or reference (plain loops, slow)'),
  gradientCache: integer(1, 8192)
    .default(1)
    .describe(
      'Chunks that a batch is computed in, for InfoNCE over more pairs than memory holds (CUDA only); batch statistics are of a chunk',
    ),
  deterministic: z
    .boolean()
    .default(true)
    .describe(
      'The same bits each time; false: CUDA may sum batch statistics in any order, inside its convolutions, which saves reading them again',
    ),
  threads: integer(0, 1024).default(0).describe('Compute threads; 0: one for each core'),
  loaderThreads: integer(1, 64).default(2).describe('Threads that read pictures and make views'),
  checkpointEverySteps: integer(1, 2 ** 32 - 1)
    .default(500)
    .describe('Steps between checkpoints'),
  keepCheckpoints: integer(1, 10_000).default(3).describe('How many of the newest checkpoints are kept'),
  logEverySteps: integer(1, 2 ** 32 - 1)
    .default(1)
    .describe('Steps between lines of the log'),
  resume: z.boolean().default(false).describe('Go on from the newest checkpoint of the run folder'),
  brokenShare: share().default(0.01).describe('Largest share of the training pictures that may be broken before the run stops'),
});

/** The options of a training run as a Zod schema: for forms, files and checks of your own. {@link checkTrainOptions} has the better messages. */
export const trainSchema = fields
  .superRefine(({ backbone, size, pairs, pairsPerEpoch, gradientCache, data, out }, context) => {
    if (resolve(data) === resolve(out)) fail(context, 'out', 'a folder other than data');
    if (pairsPerEpoch !== undefined && pairsPerEpoch < pairs) fail(context, 'pairsPerEpoch', `at least \`pairs\` (${pairs})`);
    if (backbone.startsWith('vit_b_16') && size % 16 !== 0) fail(context, 'size', `a multiple of 16 with ${backbone}`);
    if (pairs % gradientCache !== 0) fail(context, 'gradientCache', `a divisor of \`pairs\` (${pairs})`);
  })
  .describe('Options of a training run');

// A file may leave `data` and `out` to the flags.
const fileSchema = fields.partial({ data: true, out: true });

// What a model needs to know of the run that made it; the rest may be of another version.
const designSchema = z.object({
  backbone: fields.shape.backbone.unwrap(),
  width: fields.shape.width.unwrap(),
  size: fields.shape.size.unwrap(),
  augment,
  target: fields.shape.target,
});

type Frozen<T> = T extends object ? { readonly [K in keyof T]: Frozen<T[K]> } : T;

/** Options of a training run: all but `data` and `out` may be left out. Defaults are the paper's and SimCLR's values, but for `pairs`. */
export interface TrainOptions extends z.input<typeof trainSchema> {}
/** Options of a training run after the check: complete, and frozen with all that is in them. */
export interface TrainConfig extends Frozen<z.output<typeof trainSchema>> {}

/**
 * Checks the options of a training run and fills in the defaults; {@link train} does the same first.
 *
 * @param options What is to become {@link TrainOptions}, from anywhere.
 * @returns the options, complete and frozen.
 * @throws ComFaceError INVALID_CONFIG naming the option by its path, what is expected and, for an unknown one, the nearest name.
 */
export function checkTrainOptions(options: unknown): TrainConfig {
  const result = checked(trainSchema, options);
  if (result.success) return freeze(result.data);
  const { message, hint } = explain(result.error, options);
  throw new ComFaceError('INVALID_CONFIG', message, { hint });
}

/** What is no plain data may throw when it is looked at: a getter, a proxy, a promise. */
function checked<T extends z.ZodType>(schema: T, options: unknown): z.ZodSafeParseResult<z.output<T>> {
  try {
    return schema.safeParse(options);
  } catch (cause) {
    const hint = 'Pass an object of numbers, texts and lists.';
    throw new ComFaceError('INVALID_CONFIG', `Expected plain data for \`options\` but received ${show(options)}`, { hint, cause });
  }
}

/** The network that the options of a checkpoint describe, or undefined when they describe none: a checkpoint may come from anywhere. */
export function designOf(config: unknown): Pick<TrainConfig, 'backbone' | 'width' | 'size' | 'augment' | 'target'> | undefined {
  return designSchema.safeParse(config).data;
}

/**
 * Reads the options of a training run from a YAML 1.2 file (JSON is YAML). What the file leaves out stays out, `data` and `out`, too.
 *
 * @param path The file, of at most 16 KiB.
 * @throws ComFaceError IO when the file cannot be read; INVALID_CONFIG with `path:line` for what is wrong in it.
 * @example
 * ```ts
 * import { readConfigFile, train } from 'comface';
 *
 * const options = await readConfigFile('run.yaml');
 * await train({ ...options, data: 'faces', out: 'run' });
 * ```
 */
export async function readConfigFile(path: string): Promise<Partial<TrainOptions>> {
  return (await readConfig(path)).options;
}

/** Options of a file, and where they stand in it. */
export interface Config {
  options: Partial<TrainOptions>;
  /** Line of an option by its dotted name, from 1; undefined for one that the file leaves out. */
  lineOf(name: string): number | undefined;
}

/** {@link readConfigFile} with the lines. */
export async function readConfig(path: string): Promise<Config> {
  checkText('path', path);
  return parse(await readText(path), path);
}

/**
 * {@link readConfigFile} from a text.
 *
 * @param path What to call it in messages.
 */
export function parseConfig(text: string, path: string): Partial<TrainOptions> {
  return parse(text, path).options;
}

function parse(text: string, path: string): Config {
  const lines = new LineCounter();
  refuseLarge(text, path);
  const document = parseDocument(text, {
    ...{ lineCounter: lines, version: '1.2', strict: true, prettyErrors: false },
    ...{ logLevel: 'error', resolveKnownTags: false },
  });
  const wrong = document.errors[0] ?? document.warnings[0];
  if (wrong !== undefined) {
    throw new ComFaceError('INVALID_CONFIG', `${path}:${lines.linePos(wrong.pos[0]).line}: ${wrong.message}`, {
      hint: 'Correct the YAML there.',
    });
  }
  let options: unknown;
  try {
    options = document.toJS({ maxAliasCount: kAliases }) ?? {};
  } catch (cause) {
    const hint = `Write the values out: an alias may not stand for more than ${kAliases} values.`;
    const found = cause instanceof Error && cause.message.startsWith('Unresolved alias') ? cause.message : 'Expected fewer aliases';
    throw new ComFaceError('INVALID_CONFIG', `${path}:1: ${found}`, { hint, cause });
  }
  const result = checked(fileSchema, options);
  const lineAt = (where: Path) => lines.linePos(offsetOf(document, where)).line;
  if (result.success) {
    const lineOf = (name: string) => (valueAt(options, name.split('.')) === undefined ? undefined : lineAt(name.split('.')));
    return { options: options as Partial<TrainOptions>, lineOf };
  }
  const { path: where, message, hint } = explain(result.error, options);
  throw new ComFaceError('INVALID_CONFIG', `${path}:${lineAt(where)}: ${message}`, { hint });
}

function valueAt(options: unknown, path: Path): unknown {
  return path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | null | undefined)?.[key], options);
}

/** Refuses what would keep the parser busy or take its stack, by the flat passes that come before parsing. */
function refuseLarge(text: string, path: string): void {
  const lines = new LineCounter();
  const parser = new Parser(lines.addNewLine);
  const refuse = (rule: string) =>
    new ComFaceError('INVALID_CONFIG', `${path}:${lines.linePos(parser.offset).line || 1}: Expected ${rule}`, {
      hint: 'Name the YAML file of the options.',
    });
  if (Buffer.byteLength(text) > kConfigBytes) throw refuse(`at most ${kConfigBytes / 1024} KiB of options`);
  let words = 0;
  for (const word of new Lexer().lex(text)) {
    for (const _ of parser.next(word));
    if (parser.stack.length > kConfigDepth) throw refuse(`at most ${kConfigDepth} levels`);
    if (++words > kConfigWords) throw refuse(`at most ${kConfigWords} words and signs`);
  }
}

/** A flag of the command line. */
export interface Flag {
  /** As commander takes it: `--augment.crop-area-min <number>`. */
  flag: string;
  /** Text of --help with the default. */
  description: string;
  /** From the word on the command line; one that does not fit comes back as it is, for {@link checkTrainOptions} to refuse. */
  parse: (text: string) => unknown;
  /** Names from the root of the options. */
  path: readonly string[];
  /** All its values, where they are few. */
  choices?: readonly string[];
}

let flags: readonly Flag[] | undefined;

/** The flags of the command line, one for each option. */
export function trainFlags(): readonly Flag[] {
  flags ??= makeFlags();
  return flags;
}

function makeFlags(): Flag[] {
  return [...walk(trainSchema, [])].flatMap(({ path, schema }) => {
    const { core, nullable, initial } = unwrap(schema);
    const group = core instanceof z.ZodObject;
    if (path.length === 0 || (group && !nullable)) return [];
    const name = path.join('.').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const value = group ? '<none>' : core instanceof z.ZodBoolean ? `[${wordOf(core)}]` : `<${wordOf(core)}>`;
    const isRequired = !schema.safeParse(undefined).success;
    const ending = initial !== undefined ? ` (default: ${textOf(initial)})` : isRequired ? ' (required, by flag or file)' : '';
    const choices = core instanceof z.ZodEnum ? { choices: core.options as string[] } : group ? { choices: ['none'] } : {};
    return [
      {
        flag: `--${name} ${value}`,
        description: `${schema.description}${ending}`,
        parse: (text: string) => parseWord(core, text),
        path,
        ...choices,
      },
    ];
  });
}

/**
 * Options of a file with those of the command line over them.
 *
 * @param given Value by dotted path, as commander's `opts()` gives them (`augment.cropAreaMin`); undefined and names that are no
 * option are passed over.
 */
export function mergeOptions(file: object, given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const merged = structuredClone(file) as Record<string, unknown>;
  for (const { path } of trainFlags()) {
    const value = given[path.join('.')];
    if (value === undefined) continue;
    let place = merged;
    for (const name of path.slice(0, -1)) {
      if (typeof place[name] !== 'object' || place[name] === null) place[name] = {};
      place = place[name] as Record<string, unknown>;
    }
    place[path.at(-1)!] = value;
  }
  return merged;
}

function fail(context: z.core.$RefinementCtx, name: string, rule: string): void {
  context.addIssue({ code: 'custom', path: [name], message: rule });
}

type Path = readonly PropertyKey[];

/** The first thing wrong; an unknown name before all, as it often explains the rest. */
function explain(error: z.ZodError, options: unknown): { path: Path; message: string; hint: string } {
  const unknown = error.issues.find((issue) => issue.code === 'unrecognized_keys');
  if (unknown !== undefined) return explainUnknown([...unknown.path, unknown.keys[0]!]);
  const issue = error.issues[0]!;
  const value = valueAt(options, issue.path);
  const rule = issue.code === 'custom' ? issue.message : ruleOf(schemaAt(issue.path));
  const message = `Expected ${rule} for \`${nameOf(issue.path)}\` but received ${show(value)}`;
  // An element of a list has no text and no default of its own.
  const option = issue.path.filter((key) => typeof key === 'string');
  const { core } = unwrap(schemaAt(issue.path));
  const advice = core instanceof z.ZodObject ? `Set ${fieldsOf(core, issue.path)}` : `${verbOf(core)} ${rule}`;
  // The default may be what breaks a rule between two options.
  const ending = issue.code === 'custom' ? '' : defaultOf(schemaAt(option));
  const meant = core instanceof z.ZodEnum ? didYouMean(value, core.options as string[]) : '';
  return { path: issue.path, message, hint: `${advice}${ending}.${meant} ${schemaAt(option).description}.` };
}

function verbOf(core: z.ZodType): string {
  if (core instanceof z.ZodBoolean) return 'Write';
  return core instanceof z.ZodString || core instanceof z.ZodArray || core instanceof z.ZodTuple ? 'Give' : 'Choose';
}

function fieldsOf(group: z.ZodObject, path: Path): string {
  const names = Object.keys(group.shape).map((name) => `\`${nameOf([...path, name])}\``);
  return names.length > 3 ? `${names.slice(0, 2).join(', ')} and others by name` : names.join(' or ');
}

function defaultOf(schema: z.ZodType): string {
  const { initial } = unwrap(schema);
  if (initial !== undefined) return `; the default is ${textOf(initial)}`;
  return schema.safeParse(undefined).success ? ', or leave it out' : '';
}

/** A default as it is typed, without the digits that nobody types. */
function textOf(initial: unknown): string {
  return [initial]
    .flat()
    .map((item) => (typeof item === 'number' ? Number(item.toPrecision(6)) : item))
    .join(',');
}

/** Every option by its dotted name. */
let optionNames: readonly string[] | undefined;

function explainUnknown(path: Path): { path: Path; message: string; hint: string } {
  const name = nameOf(path);
  optionNames ??= [...walk(trainSchema, [])].slice(1).map((option) => nameOf(option.path));
  const names = optionNames;
  // By the last name too: `cropAreaMin` at the root is `augment.cropAreaMin`.
  const last = names.map((one) => one.split('.').at(-1)!);
  const similar = nearest(name, names) ?? names[last.indexOf(nearest(String(path.at(-1)), last) ?? '')];
  const message = `Unknown option \`${name}\`.${similar === undefined ? '' : ` Did you mean \`${similar}\`?`}`;
  return { path, message, hint: similar === undefined ? `The options are ${names.join(', ')}.` : `Write \`${similar}\`, or remove it.` };
}

function nameOf(path: Path): string {
  return (
    path.reduce<string>(
      (name, key) => (typeof key === 'number' ? `${name}[${key}]` : `${name}${name && '.'}${keyText(String(key))}`),
      '',
    ) || 'options'
  );
}

function keyText(key: string): string {
  return key.length > kNameLetters ? show(key) : key;
}

/** The schema inside its wrappers, its default, and whether it may be null. */
function unwrap(schema: z.ZodType): { core: z.ZodType; nullable: boolean; initial: unknown } {
  if (schema instanceof z.ZodPipe) return unwrap(schema.def.out as z.ZodType);
  if (schema instanceof z.ZodNullable) return { ...unwrap(schema.unwrap() as z.ZodType), nullable: true };
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault) return unwrap(schema.unwrap() as z.ZodType);
  if (schema instanceof z.ZodDefault) return { ...unwrap(schema.unwrap() as z.ZodType), initial: schema.def.defaultValue };
  return { core: schema, nullable: false, initial: undefined };
}

/** Every option and group of options, outermost first. */
function* walk(schema: z.ZodType, path: readonly string[]): Generator<{ path: readonly string[]; schema: z.ZodType }> {
  yield { path, schema };
  const { core } = unwrap(schema);
  if (core instanceof z.ZodObject) for (const [name, inner] of Object.entries(core.shape)) yield* walk(inner as z.ZodType, [...path, name]);
}

function schemaAt(path: Path): z.ZodType {
  return path.reduce<z.ZodType>((schema, key) => {
    const { core } = unwrap(schema);
    if (core instanceof z.ZodTuple) return core.def.items[Number(key)] as z.ZodType;
    if (core instanceof z.ZodArray) return core.element as z.ZodType;
    return core instanceof z.ZodObject ? (core.shape[String(key)] as z.ZodType) : schema;
  }, trainSchema);
}

function ruleOf(schema: z.ZodType): string {
  const { core, nullable } = unwrap(schema);
  if (core instanceof z.ZodObject) return `a group of options (${Object.keys(core.shape).join(', ')})${nullable ? ' or none' : ''}`;
  if (core instanceof z.ZodNumber) {
    const multipleOf = core.def.checks
      ?.map((check) => check._zod.def as { check: string; value?: number })
      .find(({ check }) => check === 'multiple_of')?.value;
    const kind = multipleOf === undefined ? (core.format === 'safeint' ? 'an integer' : 'a number') : `a multiple of ${multipleOf}`;
    return `${kind} from ${core.minValue} to ${core.maxValue}`;
  }
  if (core instanceof z.ZodEnum) return `one of ${core.options.join(', ')}`;
  if (core instanceof z.ZodTuple) return `a list of ${core.def.items.length} numbers`;
  if (core instanceof z.ZodArray) return `a list of 1 to ${kStages} integers`;
  return core instanceof z.ZodBoolean ? 'true or false' : 'a path';
}

function wordOf(core: z.ZodType): string {
  if (core instanceof z.ZodNumber) return core.format === 'safeint' ? 'integer' : 'number';
  if (core instanceof z.ZodEnum) return 'name';
  if (core instanceof z.ZodTuple || core instanceof z.ZodArray) return 'list';
  return core instanceof z.ZodBoolean ? 'boolean' : 'path';
}

function parseWord(core: z.ZodType, text: string): unknown {
  if (core instanceof z.ZodTuple || core instanceof z.ZodArray) return text.split(',', kStages + 1).map(toNumber);
  if (core instanceof z.ZodNumber) return toNumber(text);
  return core instanceof z.ZodBoolean && (text === 'true' || text === 'false') ? text === 'true' : text;
}

function toNumber(text: string): number | string {
  return text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text);
}

/** Where the deepest part of `path` that the document holds begins. */
function offsetOf(document: Document, path: Path): number {
  let node: unknown = document.contents;
  let offset = 0;
  for (const key of path) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      if (isScalar(pair?.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair?.value;
    } else if (isSeq(node)) {
      node = node.items[Number(key)];
      if (isScalar(node)) offset = node.range?.[0] ?? offset;
    }
  }
  return offset;
}

/** At most one byte more than is allowed: some paths have no end. */
async function readText(path: string): Promise<string> {
  try {
    const file = await open(path);
    try {
      const bytes = Buffer.alloc(kConfigBytes + 1);
      let length = 0;
      for (let got = 1; got > 0 && length < bytes.length; length += got) {
        got = (await file.read(bytes, length, bytes.length - length, null)).bytesRead;
      }
      return bytes.toString('utf8', 0, length);
    } finally {
      await file.close();
    }
  } catch (cause) {
    const hint = 'Check the path and its permissions.';
    throw new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint, cause });
  }
}

function freeze<T>(value: T): Frozen<T> {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze);
  return value as Frozen<T>;
}
