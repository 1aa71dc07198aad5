// The heads on a backbone's embedding: ComFace's two (paper section 3.2, figure 2), where a batch is x~_1..N, x~_N+1..2N, y~_1..N: thirds of
// its rows; the one of them that transfer goes on with (section 3.4), on x_1..N, y_1..N; and a rival's, on pictures one by one.
import type { LayerRecord } from './layers.js';

export interface HeadOptions {
  /** Width of the embedding, the backbone's last layer. */
  embedding: number;
  /** Hidden and output width of the projection head g. */
  projection: { hidden: number; out: number };
  /** tau of equation (1). */
  temperature: number;
  /** Factors of the two losses in their sum; 0 leaves that head out. */
  interPersonal: number;
  intraPersonal: number;
}

/** The whole training graph: backbone, projection head with InfoNCE (loss `inter`), change head with squared error (loss `intra`). */
export function comfaceGraph(backbone: readonly LayerRecord[], options: HeadOptions): LayerRecord[] {
  const { projection, temperature, interPersonal, intraPersonal } = options;
  const layers = [...backbone];
  const embedding = lastOf(backbone);
  if (interPersonal > 0) {
    layers.push(
      { op: 'rows', name: 'views', input: embedding, from: 0, to: 2, of: 3 },
      { op: 'linear', name: 'projection.0', input: 'views', out: projection.hidden, bias: true },
      { op: 'relu', name: 'projection.1', input: 'projection.0' },
      { op: 'linear', name: 'projection.2', input: 'projection.1', out: projection.out, bias: true },
      { op: 'l2Normalize', name: 'z', input: 'projection.2' },
      { op: 'infoNce', name: 'inter', input: 'z', temperature, weight: interPersonal },
    );
  }
  if (intraPersonal > 0) layers.push(...changeHead(embedding, 3, intraPersonal));
  return layers;
}

/** The graph of transfer: backbone and change head (loss `intra`), of batches in two halves. Parameters have the names of {@link comfaceGraph}'s. */
export const changeGraph = (backbone: readonly LayerRecord[]): LayerRecord[] => [...backbone, ...changeHead(lastOf(backbone), 2, 1)];

/** A value of each picture by itself: backbone and linear layer `value` (loss `error`). */
export const valueGraph = (backbone: readonly LayerRecord[]): LayerRecord[] => [
  ...backbone,
  { op: 'linear', name: 'value', input: lastOf(backbone), out: 1, bias: true },
  { op: 'squaredError', name: 'error', input: 'value', weight: 1 },
];

const lastOf = (backbone: readonly LayerRecord[]): string => backbone.at(-1)!.name;

/** x is the first and y the last of `parts` parts of a batch. */
const changeHead = (embedding: string, parts: number, weight: number): LayerRecord[] => [
  { op: 'rows', name: 'x', input: embedding, from: 0, to: 1, of: parts },
  { op: 'rows', name: 'y', input: embedding, from: parts - 1, to: parts, of: parts },
  { op: 'reluDifference', name: 'difference', inputs: ['y', 'x'] },
  { op: 'linear', name: 'change', input: 'difference', out: 1, bias: true },
  { op: 'squaredError', name: 'intra', input: 'change', weight },
];
