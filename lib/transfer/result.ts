import type { Interval } from './bootstrap.js';
import type { Tried } from './tune.js';
export interface DataMention {
  folder: string;
  hash: string;
  pictures: number;
  subjects: number;
}
export interface FoldResult {
  mae: number;
  correlation: number;
  accuracy: number | null;
  pairs: number;
  trainSubjects: number;
  validationSubjects: number;
  testSubjects: number;
  learningRate?: number;
  penalty?: number;
  steps?: number;
  tried?: Tried[];
}
export interface TransferResult {
  version: 1;
  attribute: string;
  unit: string;
  evaluation: 'linear' | 'fineTune' | 'patient';
  data: DataMention;
  test: DataMention | null;
  model: { folder: string | null; backbone: string; width: number; size: number };
  settings: Record<string, unknown>;
  scores: { mae: Interval; correlation: Interval; accuracy: { value: number | null; low: number | null; high: number | null } };
  folds: FoldResult[];
  pairs: { fold: number[]; subject: number[]; x: number[]; y: number[]; truth: number[]; estimate: number[] };
  warnings: string[];
  seconds: number;
  made: string;
}
export function parseTransferResult(_path: string, text: string): TransferResult {
  return JSON.parse(text) as TransferResult;
}
