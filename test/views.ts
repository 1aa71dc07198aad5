// The pictures of a drawn data set, and the changes of a view as a training run makes them.
import { checkTrainOptions } from '../lib/config.ts';
import { readManifest } from '../lib/data/manifest.ts';

export const views = {
  augment: checkTrainOptions({ data: 'data', out: 'out' }).augment,
  files: async (data: string): Promise<string[]> => (await readManifest(data)).files,
};
