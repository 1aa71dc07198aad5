// @ts-check
// Writes docs/api.md from the TSDoc of what lib/index.ts exports: `npm run api`. TypeDoc reads the sources (it needs TypeScript's JavaScript API, so npm
// brings it with a TypeScript of its own); this file is its options and the one page it writes. A name or field without a sentence is an error.
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { trainSchema } from '../dist/config.js';

/** What is read in which order. Every exported name stands in one of them. */
const chapters = [
  {
    title: 'Data',
    text: 'A data set is a folder of pictures with three things known of each: the subject (who), the attribute (what changed) and alpha (how far). Draw one with `generate`, or make one of your own pictures with `pack`. [data.md](data.md) has the formats, [faces.md](faces.md) the attributes.',
    names: [
      ...[
        'generate',
        'GenerateOptions',
        'SetOptions',
        'SetSource',
        'GenerateProgress',
        'Composition',
        'DataFormat',
        'DiskSizes',
        'attributes',
      ],
      ...['previewSet', 'Preview', 'PreviewRow', 'joinSets', 'JoinOptions'],
      ...['pack', 'PackOptions', 'PackProgress', 'PackResult', 'PackFormat', 'FoundFormat', 'ListingEvent', 'Rejected'],
      ...['inspect', 'InspectOptions', 'Inspection', 'AttributeInspection', 'dataSheet', 'contactSheet', 'SheetOptions'],
      ...['readData', 'DataSet', 'Groups', 'readPictures', 'PictureNames', 'readManifest', 'Manifest'],
    ],
  },
  {
    title: 'Generators',
    text: 'StyleGAN and StyleGAN3 by themselves, and the directions in which they change faces. [data.md](data.md) says where their weights are.',
    names: [
      ...['loadGenerator', 'GeneratorOptions', 'GeneratorPrecision', 'Generator', 'GeneratorFamily', 'EncodedPictures'],
      ...['readDirections', 'DirectionOptions', 'Direction', 'DirectionSpace', 'projectDirection', 'saveDirection'],
    ],
  },
  {
    title: 'Training',
    text: 'Pre-training as in the paper: a backbone learns to tell people apart and how far one face has changed, at once.',
    names: [
      ...['train', 'TrainOptions', 'TrainRun', 'TrainEvent', 'StepEvent', 'TrainResult', 'checkTrainOptions', 'TrainConfig'],
      ...['readConfigFile', 'trainSchema', 'BackboneName', 'backboneNames', 'embeddingWidth', 'Device', 'PrecisionChoice'],
    ],
  },
  {
    title: 'Using a model',
    text: 'Pictures for a model are JPEG files of one face, cropped to it, square and upright.',
    names: [
      ...['loadModel', 'ModelOptions', 'Model', 'Comparison', 'Task', 'ModelDesign', 'Tensor', 'Saliency'],
      ...['comparePairs', 'ComparePairsOptions', 'ComparedPairs', 'saveEmbeddings', 'SavedEmbeddings', 'saliencyPng'],
    ],
  },
  {
    title: 'Transfer to a task',
    text: 'A pre-trained network learns a change that people have labeled, and is scored on people it has not seen. [tasks.md](tasks.md) has the protocol.',
    names: [
      ...['transfer', 'TransferOptions', 'EvaluationName', 'TransferEvent', 'TransferResult', 'TransferScore'],
      ...['readTransferResult', 'patientTransfer', 'PatientOptions'],
    ],
  },
  {
    title: 'Weights',
    text: 'Weights of others become a model, and a model files for other programs. [weights.md](weights.md) has the formats and the names in them.',
    names: [
      ...['importWeights', 'ImportOptions', 'ImportName', 'importNames', 'ComparatorName', 'ImportedWeights'],
      ...['exportModel', 'ExportOptions', 'ExportFormat', 'exportFormats', 'ExportedModel'],
    ],
  },
  {
    title: 'Reports',
    text: 'A page of a run or a transfer, to read and to pass on.',
    names: ['report', 'ReportOptions', 'Report'],
  },
  {
    title: "The paper's tables",
    text: 'Every table and figure of the paper, made anew on drawn stand-ins of its data or on the real data of those who have it.',
    names: [
      ...[
        'reproduce',
        'ReproduceOptions',
        'RealData',
        'Rivals',
        'TableName',
        'tableNames',
        'ScaleName',
        'scaleNames',
        'PieceEvent',
        'Reproduction',
        'Cell',
      ],
      ...['twin', 'TwinOptions', 'TwinResult', 'TwinKind', 'twinFirstSubject'],
    ],
  },
  {
    title: 'Errors',
    text: 'One class, with a code.',
    names: ['ComFaceError', 'ErrorCode'],
  },
];

const intro = `Everything that \`comface\` exports, made from the comments of its sources by \`npm run api\`. The package is an ES module with its own
types; CommonJS gets it by \`require\` in Node 20.19 or newer.

- Paths are relative to the working directory.
- Whatever goes wrong is a [ComFaceError](#comfaceerror) with a code to branch on and a hint that is a thing to do.
- \`signal\` takes an \`AbortSignal\`. What is under way ends soon, and the call rejects with \`signal.reason\`.
- What takes long may be stopped or killed: the same call again goes on (\`train\` with \`resume: true\`; \`twin\` begins again).
- "The paper" is Akamatsu et al., *ComFace*, [arXiv 2405.16016](https://arxiv.org/abs/2405.16016).`;

/** TypeDoc's ReflectionKind. */
const [kFunction, kClass, kInterface, kParameter, kTypeAlias] = [64, 128, 256, 32_768, 2_097_152];
/** TypeScript's TypeFormatFlags: NoTruncation, InTypeAlias, UseSingleQuotesForStringLiteralType. */
const kWhole = 1 | 8_388_608 | 268_435_456;

/**
 * What is read of TypeDoc's model.
 * @typedef {{ name: string, kind: number, flags: Record<string, boolean>, comment?: any, signatures?: any[], children?: Reflection[], type?: any,
 *   inheritedFrom?: unknown, extendedTypes?: any[] }} Reflection
 * @typedef {any} Type
 * @typedef {any} Comment
 */

/** Aliases as the compiler spells them out, by name: `typeof list[number]` says nothing to a reader. @type {Map<string, string>} */
const spelled = new Map();
/** Name of each exported type by its fields. @type {Map<string, string>} */
const shapes = new Map();
/** Anchor of each exported name. @type {Map<string, string>} */
const anchors = new Map();
/** Exported names and fields without a sentence. @type {string[]} */
const silent = [];

/** @param {any} app */
function load(app) {
  app.converter.on('createDeclaration', (/** @type {any} */ context, /** @type {Reflection} */ reflection) => {
    if (reflection.kind !== kTypeAlias) return;
    const symbol = context.getSymbolFromReflection(reflection);
    if (symbol)
      spelled.set(reflection.name, context.checker.typeToString(context.checker.getDeclaredTypeOfSymbol(symbol), undefined, kWhole));
  });
  app.outputs.addOutput('page', async (/** @type {string} */ path, /** @type {any} */ project) => {
    await writeFile(path, page(project.children));
    if (silent.length > 0) app.logger.error(`No sentence in the TSDoc of ${silent.join(', ')}`);
  });
}

/** @param {Reflection[]} exported */
function page(exported) {
  const all = new Map(exported.map((reflection) => [reflection.name, reflection]));
  for (const { name, children, kind } of exported) if (kind === kInterface && children) shapes.set(shapeOf(children), name);
  const listed = chapters.flatMap(({ names }) => names);
  const lost = [...all.keys()].filter((name) => !listed.includes(name)).concat(listed.filter((name) => !all.has(name)));
  if (lost.length > 0) throw new Error(`scripts/api.mjs: exported and in no chapter, or the reverse: ${lost.join(', ')}`);
  /** As Git hosts make them. @type {Map<string, number>} */
  const taken = new Map();
  const slug = (/** @type {string} */ heading) => {
    const plain = heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-');
    const count = taken.get(plain) ?? 0;
    taken.set(plain, count + 1);
    return count === 0 ? plain : `${plain}-${count}`;
  };
  slug('API reference');
  slug('Contents');
  const titles = chapters.map(({ title, names }) => {
    const own = slug(title);
    for (const name of names) {
      anchors.set(name, slug(name));
      for (const method of methodsOf(all.get(name))) anchors.set(`${name}.${method.name}`, slug(titleOf(name, method)));
    }
    return own;
  });
  const contents = chapters.map(({ title, names }, i) => {
    const rows = names.flatMap((name) => {
      const of = all.get(name);
      return of && isMain(of) ? [`| [${name}](#${anchors.get(name)}) | ${firstSentence(textOf(commentOf(of)))} |`] : [];
    });
    return `**[${title}](#${titles[i]})**\n\n| | |\n| --- | --- |\n${rows.join('\n')}`;
  });
  const parts = chapters.map(({ title, text, names }) =>
    [`## ${title}`, text, ...names.map((name) => section(/** @type {Reflection} */ (all.get(name))))]
      .filter((part) => part !== '')
      .join('\n\n'),
  );
  const header = '<!-- Made by `npm run api` from the comments in lib/. Change those. -->';
  return `${[header, '# API reference', intro, '## Contents', ...contents, ...parts].join('\n\n')}\n`;
}

/** Functions, classes and values; types are found from these. @param {Reflection} reflection */
const isMain = (reflection) => reflection.kind !== kTypeAlias && (reflection.kind !== kInterface || reflection.name === 'DataSet');
/** @param {Reflection | undefined} reflection @returns {Reflection[]} */
const methodsOf = (reflection) => (reflection?.children ?? []).filter((child) => child.signatures && !child.name.startsWith('['));
/** @param {string} owner @param {Reflection} method */
const titleOf = (owner, method) =>
  method.name === 'constructor'
    ? `new ${owner}()`
    : `${method.flags.isStatic ? owner : owner[0]?.toLowerCase() + owner.slice(1)}.${method.name}()`;
/** Overloads are commented once. @param {any} reflection @returns {Comment} */
const commentOf = (reflection) => reflection.comment ?? reflection.signatures?.[0]?.comment;

/** @param {Reflection} reflection */
function section(reflection) {
  const { name, kind } = reflection;
  const title = kind === kFunction ? `${name}()` : name;
  const lines = [`### ${title}`, ...described(name, commentOf(reflection), reflection)];
  if (name === 'TrainOptions') lines.push(trainTable());
  else if (reflection.signatures) return lines.join('\n\n');
  else if (kind === kTypeAlias) lines.push(...aliasOf(reflection));
  else if (reflection.children || reflection.extendedTypes) lines.push(...fieldsAndMethods(reflection));
  else if (reflection.type) lines.push(constantOf(reflection));
  return lines.join('\n\n');
}

/** A constant: the words of a list, or its type. @param {Reflection} reflection */
function constantOf({ name, type }) {
  const words = /** @type {any} */ (type).target?.elements?.map((/** @type {Type} */ { value }) => `\`${value}\``);
  if (words) return `${words.join(', ')}.`;
  const whole = named(text(type));
  return code(`const ${name}: ${whole.length > 400 ? whole.replace(/<.*/, '') : whole}`);
}

/** @param {Reflection} reflection */
function fieldsAndMethods(reflection) {
  const children = reflection.children ?? [];
  const fields = children.filter(({ signatures, name }) => !signatures && (name !== 'name' || reflection.name !== 'ComFaceError'));
  const types = reflection.extendedTypes?.map(text).join() ?? '';
  // Place and Frozen are of the training options; whatever else a type extends is spelled out, such as what a schema says.
  const from = ['TransferOptions', 'RealData', 'TrainOptions'].filter(
    (name) => types.includes(name) || (name === 'TrainOptions' && /Place|Frozen/.test(types)),
  );
  const own = fields.filter(({ inheritedFrom }) => !inheritedFrom || from.length === 0);
  const inherited = fields.filter((field) => !own.includes(field)).map(({ name }) => `\`${name}\``);
  const lines = own.length > 0 ? [table(own, reflection.name)] : [];
  if (inherited.length > 0) {
    lines.push(
      own.length === 0
        ? `Its fields are those of ${linked('TrainOptions')}.`
        : `Also, as in ${from.map(linked).join(' and ')}: ${inherited.join(', ')}.`,
    );
  }
  if (children.length === 0)
    lines.push(code(`interface ${reflection.name} extends ${(reflection.extendedTypes ?? []).map(text).join(', ')}`));
  for (const method of methodsOf(reflection)) {
    if (method.name === 'constructor' && method.signatures?.[0]?.inheritedFrom) continue;
    lines.push(`#### ${titleOf(reflection.name, method)}`, ...described(`${reflection.name}.${method.name}`, commentOf(method), method));
  }
  return lines;
}

/** What is said of a name: its sentences, how it is called, what it gives and throws, an example. @param {string} name @param {Comment} comment @param {Reflection} reflection */
function described(name, comment, reflection) {
  const summary = textOf(comment);
  if (summary === '') silent.push(name);
  const tags = comment?.blockTags ?? [];
  const of = (/** @type {string} */ tag) =>
    tags.filter((/** @type {any} */ block) => block.tag === tag).map((/** @type {any} */ block) => parts(block.content).trim());
  const lines = [summary];
  if (reflection.signatures) lines.push(code(signaturesOf(reflection).join('\n')), ...parameterTable(reflection));
  for (const remark of of('@remarks')) lines.push(remark);
  for (const returned of of('@returns')) lines.push(`Returns ${returned}`);
  for (const thrown of of('@throws')) lines.push(`Throws ${thrown.replace(/^ComFaceError:?/, linked('ComFaceError'))}`);
  for (const example of of('@example')) lines.push(example);
  return lines;
}

/** @param {string} thrown */
const codes = (thrown) =>
  thrown.replace(
    /(?<![`\w])(INVALID_CONFIG|INVALID_INPUT|CORRUPT_FILE|DEVICE_UNAVAILABLE|DEVICE_FAILED|OUT_OF_MEMORY|NOT_FINITE|BUSY|DISPOSED|IO)(?!\w)/g,
    '`$1`',
  );

/** @param {Reflection} reflection @returns {string[]} */
function signaturesOf(reflection) {
  return (reflection.signatures ?? []).map((/** @type {any} */ signature) => {
    const list = (signature.parameters ?? [])
      .map((/** @type {any} */ one) => `${one.name}${isOptional(one) ? '?' : ''}: ${named(text(one.type))}`)
      .join(', ');
    const name = reflection.name === 'constructor' ? text(signature.type) : reflection.name;
    if (reflection.name === 'constructor') return `new ${name}(${list})`;
    return `${reflection.flags.isStatic ? 'static ' : ''}${name}(${list}): ${text(signature.type)}`;
  });
}

/** Parameters that something is said of, and their fields. @param {Reflection} reflection */
function parameterTable(reflection) {
  const signature = reflection.signatures?.at(-1);
  const given = signature?.parameters ?? [];
  const fields = given.flatMap((/** @type {any} */ one) => [
    one,
    ...innerOf(one.type).map(({ name, comment, flags, type }) => ({ name: `${one.name}.${name}`, comment, flags, type })),
  ]);
  const said = fields.filter(
    (/** @type {any} */ { comment, name, type }) => textOf(comment) !== '' || name.includes('.') || !/^[A-Z]\w+$/.test(text(type)),
  );
  return said.length > 0 ? [table(said, reflection.name, 'parameter', true)] : [];
}

/** @param {any[]} fields @param {string} owner @param {string} [head] @param {boolean} [isLoose] Of parameters: whether an object needs no sentence beside those of its fields. */
function table(fields, owner, head = 'field', isLoose = false) {
  const rows = fields.flatMap((field) => rowsOf(field, '', owner, isLoose));
  const hasDefault = rows.some(({ initial }) => initial !== '');
  const cells = (/** @type {string[]} */ [name, type, initial, what]) =>
    `| ${[name, type, ...(hasDefault ? [initial] : []), what].join(' | ')} |`;
  const body = rows.map(({ name, type, initial, what }) => cells([`\`${name}\``, type, initial, what]));
  return [cells([head, 'type', 'default', '']), cells(['---', '---', '---', '---']), ...body].join('\n');
}

/**
 * A field, and under it those of an object that it is, or a list of.
 * @param {any} field @param {string} prefix @param {string} owner @param {boolean} isLoose
 * @returns {{ name: string, type: string, initial: string, what: string }[]}
 */
function rowsOf(field, prefix, owner, isLoose) {
  const { comment, type } = field;
  const name = `${prefix}${field.name}`;
  const what = cell(textOf(comment ?? type?.declaration?.signatures?.[0]?.comment));
  const known = sameAs(type);
  const inner = known ? [] : innerOf(type);
  if (what === '' && !(isLoose && inner.length > 0)) silent.push(`${owner}.${name}`);
  const initial = (comment?.blockTags ?? [])
    .filter((/** @type {any} */ { tag }) => tag === '@default')
    .map((/** @type {any} */ { content }) => cell(bare(parts(content))));
  const shape = inner.length === 0 ? linked(known ?? text(type)) : (objects.get(type.type) ?? 'object');
  const own = { name: `${name}${isOptional(field) ? '?' : ''}`, type: cell(shape), initial: initial.join(''), what };
  // The fields of a parameter are in its table already.
  if (isLoose) return [own];
  const place = `${name}${type.type === 'array' ? '[]' : ''}.`;
  return [own, ...inner.flatMap((child) => rowsOf(child, place, owner, false))];
}

/** What stands for a type whose fields have rows of their own. */
const objects = new Map([
  ['array', 'list of objects'],
  ['union', 'object or null'],
]);

/** The exported type that an object has all the fields of, whatever it is called in the sources. @param {Type} type @returns {string | undefined} */
function sameAs(type) {
  const fields = type?.type === 'reflection' ? innerOf(type) : [];
  return fields.length > 1 ? shapes.get(shapeOf(fields)) : undefined;
}

/** @param {any[]} fields */
const shapeOf = (fields) => fields.map((field) => `${field.name}: ${text(field.type)}`).join();

/** A list of words by the name of its type. @param {string} plain */
function named(plain) {
  for (const [name, whole] of spelled) {
    const words = whole.split(' | ').sort().join();
    if (!/^'[^{}]*'$/.test(whole) || !whole.includes(' | ')) continue;
    plain = plain
      .replace(/'\w+'(?: \| '\w+')+/g, (found) => (found.split(' | ').sort().join() === words ? name : found))
      .replace(`(${name})[]`, `${name}[]`);
  }
  return plain;
}

/** Fields of an object, of one that may be null, or of the objects of a list. @param {Type} type @returns {any[]} */
function innerOf(type) {
  if (type?.type === 'array') return innerOf(type.elementType);
  if (type?.type === 'union') return type.types.length === 2 && type.types[1].value === null ? innerOf(type.types[0]) : [];
  const { declaration } = type ?? {};
  return type?.type === 'reflection' && !declaration.signatures ? (declaration.children ?? []) : [];
}

/** @param {Reflection} reflection */
function aliasOf(reflection) {
  const { name } = reflection;
  const type = /** @type {any} */ (reflection.type);
  const members = type.type === 'union' ? type.types : [type];
  if (!members.some((/** @type {Type} */ member) => fieldsOf(member).length > 0)) {
    const whole = spelled.get(name) ?? text(type);
    return whole.startsWith('{') || whole.includes('Frozen') || whole.includes('Zod') ? [] : [code(`type ${name} = ${whole}`)];
  }
  return members.flatMap((/** @type {Type} */ member) => {
    const fields = fieldsOf(member);
    if (fields.length === 0) return [`${linked(text(member))}, as below.`];
    const kind = fields.find((/** @type {any} */ field) => field.type.type === 'literal');
    const said = textOf(kind?.comment);
    const rest = fields.filter((field) => field !== kind);
    if (!kind) return [table(rest, name)];
    if (said === '') silent.push(`${name} ${text(kind.type)}`);
    return [`**\`${kind.name}: ${text(kind.type)}\`**: ${said}`, ...(rest.length > 0 ? [table(rest, name)] : [])];
  });
}

/** @param {Type} type @returns {any[]} */
function fieldsOf(type) {
  if (type.type === 'intersection') return type.types.flatMap(fieldsOf);
  if (type.type === 'reference' && !anchors.has(type.name)) return type.reflection?.children ?? [];
  return type.type === 'reflection' && !type.declaration.signatures ? (type.declaration.children ?? []) : [];
}

/** @param {any} one */
const isOptional = (one) =>
  one.flags?.isOptional || one.defaultValue === '{}' || (one.kind === kParameter && one.defaultValue !== undefined);

/** A type as it is written. @param {Type} type @returns {string} */
function text(type) {
  if (type === undefined) return 'unknown';
  switch (type.type) {
    case 'union':
      return [...type.types]
        .sort((a, b) => Number(a.value === null) - Number(b.value === null) || Number(a.value) - Number(b.value) || 0)
        .map(text)
        .join(' | ');
    case 'intersection':
      return type.types.map(text).join(' & ');
    case 'array': {
      const element = text(type.elementType);
      return /[ ]/.test(element) && !element.startsWith('{') ? `(${element})[]` : `${element}[]`;
    }
    case 'literal':
      return typeof type.value === 'string' ? `'${type.value}'` : String(type.value);
    case 'typeOperator':
      return `${type.operator} ${text(type.target)}`;
    case 'reflection': {
      const [signature] = type.declaration.signatures ?? [];
      if (signature)
        return `(${(signature.parameters ?? []).map((/** @type {any} */ one) => `${one.name}: ${text(one.type)}`).join(', ')}) => ${text(signature.type)}`;
      return `{ ${(type.declaration.children ?? []).map((/** @type {any} */ child) => `${child.name}${child.flags.isOptional ? '?' : ''}: ${text(child.type)}`).join('; ')} }`;
    }
    case 'reference': {
      const list = (type.typeArguments ?? []).map(text);
      if (type.name === 'Weights') return `ReadonlyMap<string, Tensor> | { seed: number }`;
      return list.length > 0 && !/^(Float32|Uint\d+|Int32)Array$/.test(type.name) ? `${type.name}<${list.join(', ')}>` : type.name;
    }
    default:
      return type.toString();
  }
}

/** A type as code, exported names in it as links. @param {string} plain */
function linked(plain) {
  const pieces = plain.split(/\b([A-Za-z]\w*)\b/).map((piece, i, all) => {
    const isName = i % 2 === 1 && anchors.has(piece) && !/['.]$/.test(all[i - 1] ?? '') && !(all[i + 1] ?? '').startsWith(':');
    return isName ? { link: `[\`${piece}\`](#${anchors.get(piece)})` } : { plain: piece };
  });
  let out = '';
  let open = '';
  for (const piece of pieces) {
    if (piece.plain !== undefined) open += piece.plain;
    else {
      out += `${open.trim() === '' ? open : `\`${open}\``}${piece.link}`;
      open = '';
    }
  }
  return `${out}${open === '' ? '' : `\`${open}\``}`;
}

/** @param {Comment} comment */
const textOf = (comment) => parts(comment?.summary ?? []).trim();

/** Prose with its links. @param {any[]} content */
function parts(content) {
  const joined = content.map((part) => {
    if (part.kind !== 'inline-tag') return part.text;
    const name =
      part.target?.parent?.kind === kClass || part.target?.parent?.kind === kInterface
        ? `${part.target.parent.name}.${part.target.name}`
        : (part.target?.name ?? part.text);
    const anchor = anchors.get(name);
    if (!anchor) throw new Error(`{@link ${part.text}} names nothing on the page`);
    return `[${name}](#${anchor})`;
  });
  const whole = joined.join('');
  return whole.startsWith('```') ? whole : codes(whole.replace(/docs\/(\w+\.md)/g, '[docs/$1]($1)'));
}

/** @param {string} prose */
const cell = (prose) => prose.replace(/\s*\n\s*/g, ' ').replaceAll('|', '\\|');
/** A value without the fence that TypeDoc puts around it. @param {string} fenced */
const bare = (fenced) =>
  fenced.replace(/^```ts\n([\s\S]*)\n```$/, (_, value) =>
    /^('[^']*'|[-\d.^e]+|true|false|null|\[.*\])$/.test(value) ? `\`${value}\`` : value,
  );
/** @param {string} prose */
const firstSentence = (prose) => cell(/^[\s\S]*?[.](?=\s|$)/.exec(prose)?.[0] ?? prose);
/** @param {string} source */
const code = (source) => `\`\`\`ts\n${source}\n\`\`\``;

/** The options of a run, from their schema: types, ranges, defaults and texts stand there once. */
function trainTable() {
  const schema = z.toJSONSchema(trainSchema, { io: 'output', unrepresentable: 'any' });
  return ['| option | values | default | |', '| --- | --- | --- | --- |', ...optionRows(schema, '')].join('\n');
}

/** @param {any} schema @param {string} prefix @returns {string[]} */
function optionRows({ properties = {} }, prefix) {
  return Object.entries(properties).flatMap(([key, /** @type {any} */ given]) => {
    const group = [given, ...(given.anyOf ?? [])].find(({ properties: inner }) => inner);
    const name = `${prefix}${key}`;
    const initial =
      given.default === undefined || group
        ? ''
        : `\`${JSON.stringify(given.default, (_, value) => (typeof value === 'number' ? Number(value.toPrecision(6)) : value)).replaceAll('"', "'")}\``;
    const required = name === 'data' || name === 'out' ? 'required' : initial;
    const row = `| \`${name}\` | ${group ? (given.anyOf ? "object or `'none'`" : 'object') : valuesOf(given)} | ${required} | ${cell(given.description ?? '')}. |`;
    return [row, ...(group ? optionRows(group, `${name}.`) : [])];
  });
}

/** @param {any} schema @returns {string} */
function valuesOf({ type, enum: words, minimum, maximum, items, prefixItems, multipleOf }) {
  if (words) return words.map((/** @type {string} */ word) => `\`'${word}'\``).join(', ');
  if (prefixItems) return `${prefixItems.length} numbers, ${valuesOf(prefixItems[0]).replace('number, ', '')}`;
  if (type === 'array') return `list of: ${valuesOf(items)}`;
  if (type === 'integer' || type === 'number')
    return `${type}, ${short(minimum)} to ${short(maximum)}${multipleOf ? `, multiple of ${multipleOf}` : ''}`;
  return type === 'string' ? 'path' : type;
}

/** @param {number} value */
const short = (value) =>
  value === Number.MAX_SAFE_INTEGER
    ? '2^53 - 1'
    : value === 2 ** 32 - 1
      ? '2^32 - 1'
      : value > 9999
        ? value.toLocaleString('en-US')
        : String(value);

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

export default {
  name: 'comface',
  entryPoints: [at('../lib/index.ts')],
  tsconfig: at('../lib/tsconfig.json'),
  plugin: [load],
  outputs: [{ name: 'page', path: at('../docs/api.md') }],
  readme: 'none',
  sort: ['source-order'],
  disableSources: true,
  excludeExternals: true,
  excludePrivate: true,
  excludeInternal: true,
  validation: { notExported: false, invalidLink: true, notDocumented: false },
  treatWarningsAsErrors: true,
};
