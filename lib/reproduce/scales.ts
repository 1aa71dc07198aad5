// How large a reproduction is. `paper` is what the paper states, for who has its machines; `small` fits an evening on two cores; `smoke` shows in
// minutes that every part runs, and learns next to nothing.
import type { TrainOptions } from '../config.js';
import { attributes } from '../data/attributes.js';
import type { SetOptions } from '../data/generation.js';
import type { TransferOptions } from '../transfer/options.js';

/** Sizes of the stand-ins; left out: the real data sets'. */
interface TwinSizes {
  subjects?: number;
  frames?: number;
  size?: number;
}

export interface Scale {
  faces: Pick<SetOptions, 'subjects' | 'attributes' | 'alphas' | 'size' | 'composition'>;
  train: Omit<TrainOptions, 'data' | 'out'>;
  transfer: Omit<TransferOptions, 'data' | 'out' | 'model'>;
  twins: { disfa: TwinSizes; fgnet: TwinSizes; weight: TwinSizes };
  /** Edge of the packed pictures. */
  packed: number;
}

/** Softer than SimCLR's, since small pictures show small changes in few pixels. */
const kSoftViews = {
  ...{ cropAreaMin: 0.85, cropAspectMax: 1.05, jitterProbability: 0.5, brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.02 },
  grayscaleProbability: 0,
};
const kSmallNet = { backbone: 'resnet18', width: 32, size: 64 } as const;

/** What the tasks are about, and some of the rest. */
const kSmallAttributes = ['weight', 'age', 'smile', 'Bags_Under_Eyes', 'Chubby', 'High_Cheekbones', 'Male', 'Narrow_Eyes', 'Young'];

export const scales: Readonly<Record<'smoke' | 'small' | 'paper', Scale>> = {
  smoke: {
    faces: { subjects: 12, attributes: kSmallAttributes.slice(0, 4), alphas: 11, size: 32, composition: 'paper' },
    train: {
      backbone: 'resnet18',
      width: 16,
      size: 32,
      pairs: 8,
      epochs: 4,
      pairsPerEpoch: 8,
      curriculum: { stageEnds: [1, 2, 3, 4] },
      augment: kSoftViews,
    },
    transfer: { pairs: 8, epochs: 1, pairsPerSubject: 4, learningRates: [4e-4], augment: kSoftViews },
    twins: {
      disfa: { subjects: 6, frames: 24, size: 64 },
      fgnet: { subjects: 6, size: 64 },
      weight: { subjects: 12, frames: 1, size: 64 },
    },
    packed: 32,
  },
  small: {
    faces: { subjects: 1000, attributes: kSmallAttributes, alphas: 21, size: 64, composition: 'full' },
    train: {
      ...kSmallNet,
      ...{ pairs: 32, epochs: 12, pairsPerEpoch: 5440, learningRate: 6e-4, augment: kSoftViews, validation: 0.05 },
      curriculum: { stageEnds: [6, 8, 10, 12] },
    },
    transfer: { pairs: 32, epochs: 6, pairsPerSubject: 24, learningRates: [3e-4, 1e-3], patience: 2, augment: kSoftViews },
    twins: { disfa: { frames: 400, size: 128 }, fgnet: { size: 128 }, weight: { frames: 6, size: 128 } },
    packed: 64,
  },
  paper: {
    faces: { subjects: 250_000, attributes, alphas: 101, size: 224, composition: 'paper' },
    train: { backbone: 'resnet50', size: 224, pairs: 1024, epochs: 12 },
    transfer: { pairs: 32, epochs: 30, pairsPerSubject: 1000, learningRates: [1e-5, 1e-4, 4e-4] },
    twins: { disfa: {}, fgnet: {}, weight: {} },
    packed: 224,
  },
};

/** How large a reproduction is. `smoke`: minutes, to see every part run; it learns next to nothing. `small`: an evening on two cores. `paper`: what the paper states. */
export type ScaleName = keyof typeof scales;
/** Every scale, smallest first. */
export const scaleNames = Object.keys(scales) as readonly ScaleName[];
