// The records a network is made of. native/graph.h holds the same list and checks it; a model is an array of these.

/** Names of the layer to read and of this layer; names become parameter names (`conv1` -> `conv1.weight`). */
interface Base {
  name: string;
}
interface OneInput extends Base {
  input: string;
}
interface TwoInputs extends Base {
  /** For `reluDifference`: relu(first - second). */
  inputs: readonly [string, string];
}

export type LayerRecord =
  | (Base & { op: 'input'; channels: number; height: number; width: number })
  | (OneInput & { op: 'conv'; out: number; kernel: number; stride: number; pad: number; bias?: boolean })
  | (OneInput & { op: 'batchNorm'; eps?: number; momentum?: number })
  | (OneInput & { op: 'relu' | 'avgPool' | 'l2Normalize' })
  | (TwoInputs & { op: 'add' | 'reluDifference' })
  | (OneInput & { op: 'maxPool'; kernel: number; stride: number; pad: number })
  | (OneInput & { op: 'linear'; out: number; bias: boolean })
  /** Samples [batch * from / of, batch * to / of). */
  | (OneInput & { op: 'rows'; from: number; to: number; of: number })
  | (OneInput & { op: 'infoNce'; temperature: number; weight: number })
  | (OneInput & { op: 'squaredError'; weight: number });
