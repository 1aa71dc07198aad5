// The public names, re-exported; nothing else.
export { checkTrainOptions, readConfigFile, type TrainConfig, type TrainOptions, trainSchema } from './config.js';
export { attributes } from './data/attributes.js';
export type { Rejected } from './data/collector.js';
export type { Composition } from './data/composition.js';
export { type DataSet, readData } from './data/dataset.js';
export type { DataFormat, GenerateProgress, SetOptions } from './data/generation.js';
export type { Groups } from './data/groups.js';
export {
  type AttributeInspection,
  dataSheet,
  type Inspection,
  type InspectOptions,
  inspect,
} from './data/inspect.js';
export { type JoinOptions, joinSets } from './data/joined.js';
export type { FoundFormat, ListingEvent, PackFormat } from './data/listing.js';
export type { DiskSizes } from './data/makeset.js';
export { type Manifest, readManifest } from './data/manifest.js';
export { type PackOptions, type PackProgress, type PackResult, pack } from './data/pack.js';
export { type PictureNames, readPictures } from './data/pictures.js';
export { contactSheet, type SheetOptions } from './data/sheet.js';
export { type TwinOptions, type TwinResult, twin } from './data/twin.js';
export { type TwinKind, twinFirstSubject } from './data/twins/parts.js';
export { ComFaceError, type ErrorCode } from './errors.js';
export { type Direction, type DirectionOptions, type DirectionSpace, projectDirection, readDirections } from './generate/directions.js';
export type { GeneratorFamily } from './generate/file.js';
export { type GenerateOptions, generate, type Preview, type PreviewRow, previewSet, type SetSource } from './generate/generate.js';
export {
  type EncodedPictures,
  type Generator,
  type GeneratorOptions,
  type GeneratorPrecision,
  loadGenerator,
} from './generate/generator.js';
export { saveDirection } from './generate/save.js';
export { type Comparison, loadModel, Model, type ModelDesign, type ModelOptions, type Task } from './model.js';
export { type BackboneName, backboneNames, embeddingWidth } from './models/backbone.js';
export type { Device, PrecisionChoice } from './native.js';
export { type Report, type ReportOptions, report } from './report/make.js';
export { saliencyPng } from './report/overlay.js';
export type { Saliency } from './report/saliency.js';
export { type ReproduceOptions, type Reproduction, reproduce } from './reproduce/reproduce.js';
export { type ScaleName, scaleNames } from './reproduce/scales.js';
export { type Cell, type TableName, tableNames } from './reproduce/tables.js';
export type { PieceEvent, RealData, Rivals } from './reproduce/workshop.js';
export { type StepEvent, type TrainEvent, type TrainResult, type TrainRun, train } from './train/train.js';
export type { TransferEvent } from './transfer/events.js';
export type { EvaluationName, TransferOptions } from './transfer/options.js';
export { type PatientOptions, patientTransfer } from './transfer/patient.js';
export { readTransferResult, type TransferResult, type TransferScore } from './transfer/result.js';
export { transfer } from './transfer/transfer.js';
export { type SavedEmbeddings, saveEmbeddings } from './use/embeddings.js';
export { type ExportedModel, type ExportFormat, type ExportOptions, exportFormats, exportModel } from './use/export.js';
export { type ImportedWeights, type ImportName, type ImportOptions, importNames, importWeights } from './use/import.js';
export { type ComparedPairs, type ComparePairsOptions, comparePairs } from './use/pairs.js';
export type { ComparatorName } from './weights/comparators.js';
export type { Tensor } from './weights/safetensors.js';
