// The model card (README.md) and the configuration files of an export, in the form that model hubs expect. A card holds settings and scores; no path, no
// name of a person, no file name of the data.
import type { ModelDesign } from '../model.js';
import { isTransformer } from '../models/backbone.js';
import type { RunFacts } from '../report/run.js';
import type { TransferResult } from '../transfer/result.js';

/** By which a card is known again. */
export const kCardMark = 'Exported by comface';

/** What a card tells of. */
export interface CardFacts {
  design: ModelDesign;
  /** Width of an embedding. */
  embedding: number;
  version: string;
  /** Names of the files beside it. */
  files: readonly string[];
  hasChange: boolean;
  /** Title and file of weights that were imported. */
  imported: { title: string; source: string } | undefined;
  run: RunFacts | undefined;
  transfer: TransferResult | undefined;
}

const titles: Record<ModelDesign['backbone'], string> = {
  resnet18: 'ResNet-18',
  resnet34: 'ResNet-34',
  resnet50: 'ResNet-50',
  resnet101: 'ResNet-101',
  resnet50_caffe: "ResNet-50 (Caffe's)",
  vit_b_16: 'ViT-B/16',
  vit_b_16_clip: "ViT-B/16 (CLIP's)",
  pcl: "16-layer CNN (PCL's)",
};

/** timm's name of a network; it knows no other widths, and neither Caffe's ResNet nor PCL's network. */
export function timmName({ backbone, width }: ModelDesign): string | undefined {
  if (width !== 64 || backbone === 'resnet50_caffe' || backbone === 'pcl') return undefined;
  const transformers = { vit_b_16: 'vit_base_patch16_224', vit_b_16_clip: 'vit_base_patch16_clip_quickgelu_224' } as const;
  return isTransformer(backbone) ? transformers[backbone] : backbone;
}

/** config.json, as timm's models on a hub have it. */
export function timmConfig(design: ModelDesign, embedding: number): object {
  const { backbone, size, augment } = design;
  return {
    architecture: timmName(design),
    num_classes: 0,
    num_features: embedding,
    global_pool: isTransformer(backbone) ? 'token' : 'avg',
    ...(isTransformer(backbone) && { model_args: { img_size: size } }),
    pretrained_cfg: {
      ...{
        input_size: [3, size, size],
        fixed_input_size: isTransformer(backbone),
        interpolation: 'bilinear',
        crop_pct: 1,
        crop_mode: 'squash',
      },
      ...{ mean: augment.mean, std: augment.deviation, num_classes: 0 },
      ...{ first_conv: isTransformer(backbone) ? 'patch_embed.proj' : 'conv1', classifier: isTransformer(backbone) ? 'head' : 'fc' },
    },
  };
}

/** preprocessor_config.json, as image processors of transformers read it. */
export const preprocessorConfig = ({ size, augment }: ModelDesign): object => ({
  image_processor_type: 'ViTImageProcessor',
  ...{ do_resize: true, size: { height: size, width: size }, resample: 2 }, // 2: bilinear, antialiased
  ...{ do_rescale: true, rescale_factor: 1 / 255 },
  ...{ do_normalize: true, image_mean: augment.mean, image_std: augment.deviation },
});

/** README.md. */
export function modelCard(facts: CardFacts): string {
  const { design, files } = facts;
  const parts = [
    frontMatter(facts),
    `# ${nameOf(facts)}`,
    introduction(facts),
    '## What goes in, what comes out',
    inputText(facts),
    '## Files',
    table(
      ['file', 'what'],
      files.map((file) => [`\`${file}\``, fileTexts[file] ?? '']),
    ),
    '## Use',
    ...useTexts(facts),
    '## Training',
    table(['setting', 'value'], settingsOf(facts)),
    ...scores(facts),
    '## Before it is used',
    limits(facts),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`.replaceAll('SIZE', String(design.size));
}

const frontMatter = ({ design }: CardFacts): string =>
  [
    '---',
    `library_name: ${timmName(design) === undefined ? 'comface' : 'timm'}`,
    'pipeline_tag: image-feature-extraction',
    'tags:',
    '- comface',
    '- face-comparison',
    '---',
  ].join('\n');

const nameOf = ({ design, transfer, imported }: CardFacts): string => {
  if (imported) return `${titles[design.backbone]} of ${imported.title}`;
  return `${titles[design.backbone]} of ComFace${transfer ? ` for ${transfer.attribute}` : ''}`;
};

function introduction({ design, version, imported, transfer }: CardFacts): string {
  const network = `A ${titles[design.backbone]}${design.width === 64 ? '' : ` of width ${design.width} (usual: 64)`} for comparing two faces of one person`;
  const origin = imported
    ? `, with the weights of ${imported.title} (${imported.source}). Their license is that of their authors.`
    : ', pre-trained by ComFace (Akamatsu et al., [arXiv 2405.16016](https://arxiv.org/abs/2405.16016)).';
  const task = transfer ? ` Transferred to changes of ${transfer.attribute}, in ${transfer.unit}.` : '';
  return `${network}${origin}${task} ${kCardMark} ${version}.`;
}

function inputText({ design, embedding, hasChange }: CardFacts): string {
  const list = (numbers: readonly number[]) => numbers.map((value) => Number(value.toPrecision(8))).join(', ');
  const lines = [
    '- In: pictures cropped to a face and to a square, upright, resized to SIZE x SIZE (bilinear, antialiased), RGB from 0 to 1, minus the mean',
    `  (${list(design.augment.mean)}), divided by the deviation (${list(design.augment.deviation)}): batch x 3 x SIZE x SIZE.`,
    `- Out: an embedding of ${embedding} numbers a picture.`,
  ];
  if (hasChange) {
    const unit = design.task ? `${design.task.attribute}, in ${design.task.unit}` : 'the face, in steps of alpha';
    const sign = design.task || design.target === 'signed' ? 'with its direction' : 'its size without a direction';
    lines.push(
      `- The change of ${unit} (${sign}) from picture x to picture y: \`w . relu(h_y - h_x) + b\` of their embeddings, by the change head.`,
    );
  }
  return lines.join('\n');
}

const fileTexts: Record<string, string> = {
  'model.safetensors': 'the backbone, by the names that its PyTorch weights have',
  'heads.safetensors': 'the change head (`change.weight`, `change.bias`) and, where it was pre-trained, the projection head',
  'model.onnx':
    'ONNX, opset 17: input `images`; outputs `embedding` and, with a change head, `change` from the first picture of the batch to each',
  'config.json': 'which network of timm it is',
  'preprocessor_config.json': 'how a picture is prepared, for image processors of transformers',
};

function useTexts({ design, files, hasChange }: CardFacts): string[] {
  const texts: string[] = [];
  const python = (...lines: string[]) => texts.push(['```python', ...lines, '```'].join('\n'));
  if (files.includes('model.safetensors')) {
    texts.push('```sh\nnpx comface import model.safetensors --out model && npx comface embed a.jpg b.jpg --model model --out h.npy\n```');
    if (timmName(design) !== undefined)
      python(
        'import timm',
        '',
        "model = timm.create_model('local-dir:.', pretrained=True).eval()  # in this folder",
        'h = model(pictures)',
      );
  }
  if (files.includes('model.onnx')) {
    const outputs = hasChange ? ['embedding', 'change'] : ['embedding'];
    python(
      'import onnxruntime',
      '',
      "session = onnxruntime.InferenceSession('model.onnx')",
      `${outputs.join(', ')}${outputs.length === 1 ? ',' : ''} = session.run([${outputs.map((name) => `'${name}'`).join(', ')}], {'images': pictures})`,
      ...(hasChange ? ['change[1]  # from the first picture to the second'] : []),
    );
  }
  return texts;
}

/** Of a run's options those that say how it learned. */
const told = ['pairs', 'epochs', 'pairsPerEpoch', 'temperature', 'interPersonal', 'intraPersonal', 'target', 'learningRate', 'weightDecay'];

function settingsOf({ design, run, transfer }: CardFacts): string[][] {
  const rows = [
    ['backbone', `${titles[design.backbone]}, width ${design.width}`],
    ['size', `${design.size} x ${design.size}`],
  ];
  const { config = {}, start = {} } = run ?? {};
  for (const name of told) {
    const value = config[name];
    if (typeof value === 'number' || typeof value === 'string') rows.push([name, String(value)]);
  }
  for (const name of ['pictures', 'subjects', 'precision', 'engine']) {
    const value = start[name];
    if (typeof value === 'number' || typeof value === 'string') rows.push([name, String(value)]);
  }
  if (transfer) rows.push(['transfer', `${transfer.attribute}: ${transfer.data.pictures} pictures of ${transfer.data.subjects} subjects`]);
  return rows;
}

function scores({ run, transfer }: CardFacts): string[] {
  const number = (value: number | null) => (value === null || Number.isNaN(value) ? '' : Number(value.toPrecision(3)).toString());
  const texts: string[] = [];
  if (transfer) {
    const rows = Object.entries(transfer.scores).map(([name, { value, low, high }]) => [
      name,
      number(value),
      `${number(low)} to ${number(high)}`,
    ]);
    texts.push(
      `Of changes between pictures of subjects that were not learned from, in folds by subject (${transfer.attribute}, ${transfer.unit}):`,
      table(['score', 'value', '95 % interval over subjects'], rows),
    );
  }
  const last = run?.validations.at(-1);
  if (last)
    texts.push(
      `Pre-training, subjects kept out, after epoch ${last.epoch}: mean absolute error ${number(last.mae)} steps of alpha, correlation ${number(last.correlation)}, of ${last.pairs} pairs.`,
    );
  return texts.length > 0 ? ['## Scores', ...texts] : [];
}

const limits = ({ imported }: CardFacts): string =>
  [
    '- Pictures of faces are personal data: ask the people in them, and look up what the law wants where you are.',
    '- It estimates; it is no medical device, and its scores are of the data above. Test it on people like those that it is for.',
    `- State a license when you publish it.${imported ? ' The weights began as those of others, whose license may not allow that.' : ' The exporting program knows none of the data it learned from.'}`,
  ].join('\n');

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replace(/\s+/g, ' ')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
