// What the names of published directions say: attribute, generator, space. Facts of genforce/interfacegan, younesbelkada/interfacegan (InterFaceGAN++),
// yuval-alaluf/stylegan3-editing and aekpalakorn/StyleGAN-Facial-Weight.
import { basename, dirname } from 'node:path';
import { attributes } from '../data/attributes.js';

/** What is known of a file. */
export interface Described {
  attribute: string;
  generator?: string;
  space?: 'Z' | 'W' | 'W+';
}

/** Our names for those of others. */
const renamed: ReadonlyMap<string, string> = new Map([
  ['gender', 'Male'],
  ['Gender', 'Male'],
  ['eyeglasses', 'Eyeglasses'],
]);

/** Our name of an attribute; the same for one that we have no other for. */
export const attributeOf = (name: string): string => renamed.get(name) ?? name;

/** InterFaceGAN's `stylegan_ffhq_age_w_boundary.npy`. */
const kInterFaceGan = /^(pggan|stylegan|stylegan2)_([a-z]+)_(\w+?)(_w)?_boundary\.npy$/;
/** InterFaceGAN++'s folders: `stylegan_ffhq_w/boundary_Smiling.npy`. Its StyleGAN3 is a T. */
const kPlusPlus = /^(stylegan|stylegan2|stylegan3)_([a-z]+)_([wz])$/;
const generatorNames: Record<string, string> = {
  pggan: 'pggan',
  stylegan: 'stylegan1',
  stylegan2: 'stylegan2',
  stylegan3: 'stylegan3-t',
};

/** What the path of a file says; at least an attribute. */
export function described(file: string): Described {
  const name = basename(file);
  const folder = basename(dirname(file));
  const first = kInterFaceGan.exec(name);
  if (first) return { attribute: first[3]!, generator: `${generatorNames[first[1]!]}-${first[2]}-1024`, space: first[4] ? 'W' : 'Z' };
  const plus = kPlusPlus.exec(folder);
  const [, inPlus] = /^boundary_(.+)\.npy$/.exec(name) ?? [];
  if (plus && inPlus !== undefined)
    return { attribute: inPlus, generator: `${generatorNames[plus[1]!]}-${plus[2]}-1024`, space: plus[3] === 'w' ? 'W' : 'Z' };
  const [, edited] = /^(.+)_boundary\.npy$/.exec(name) ?? [];
  // The unaligned generator of stylegan3-editing has a folder of its own.
  if (edited !== undefined && [...attributes, 'pose'].includes(edited))
    return { attribute: edited, generator: `stylegan3-r-${folder === 'ffhqu' ? 'ffhqu' : 'ffhq'}-1024`, space: 'W' };
  if (/^weight(_\w+)?\.npy$/.test(name))
    return { attribute: 'weight', generator: `${/stylegan2/i.test(folder) ? 'stylegan2' : 'stylegan1'}-ffhq-1024`, space: 'W' };
  return { attribute: name.replace(/\.npy$/, '') };
}

/** Where directions of a family are published, for messages. */
export const publishedAt: Readonly<Record<string, string>> = {
  stylegan1:
    'weight is in aekpalakorn/StyleGAN-Facial-Weight (StyleGAN1/weight_orth_mouth.npy), age and smile in genforce/interfacegan (boundaries), the others in InterFaceGAN++ (younesbelkada/interfacegan)',
  'stylegan3-r': 'they are linked from yuval-alaluf/stylegan3-editing (editing/interfacegan/boundaries/ffhq)',
  'stylegan3-t': 'they are in InterFaceGAN++ (younesbelkada/interfacegan, boundaries/stylegan3_ffhq_z)',
};
