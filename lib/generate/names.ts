// What the files of StyleGAN call its tensors: the official pickle of TensorFlow, genforce's conversion, lernapparat's. Facts of the repositories
// NVlabs/stylegan, genforce/interfacegan and lernapparat/lernapparat.
import { edgeOf, kFusedFrom, type StyleGan1Names } from './stylegan1.js';

const isLate = (l: number): boolean => edgeOf(l) >= kFusedFrom;

/** genforce/interfacegan, models/stylegan_generator_model.py: `stylegan_ffhq.pth`. */
export function genforceNames(has: (name: string) => boolean): StyleGan1Names {
  const isFused = (l: number) => has(`synthesis.layer${l}.weight`);
  return {
    title: 'a StyleGAN of genforce',
    isTensorFlow: false,
    average: 'truncation.w_avg',
    dense: (i) => ({ weight: `mapping.dense${i}.linear.weight`, bias: `mapping.dense${i}.wscale.bias` }),
    constant: 'synthesis.layer0.first_layer',
    layer(l) {
      const name = `synthesis.layer${l}`;
      const style = `${name}.epilogue.style_mod.dense`;
      return {
        conv: isFused(l) ? `${name}.weight` : `${name}.conv.weight`,
        isConvTensorFlow: isFused(l),
        noise: `${name}.epilogue.apply_noise.noise`,
        noiseWeight: `${name}.epilogue.apply_noise.weight`,
        bias: `${name}.epilogue.bias`,
        style: { weight: `${style}.linear.weight`, bias: `${style}.wscale.bias` },
      };
    },
    rgb: genforceRgb(has),
    isFused,
    // Pictures of lower resolutions, the constants of blurring and truncation, how far its training had grown.
    isSpare: (name) =>
      /^synthesis\.(output\d+\.(conv\.weight|bias)|lod|layer\d+\.blur\.kernel)$/.test(name) ||
      /^truncation\.(truncation|w_avg)$/.test(name),
  };
}

/** The last of its outputs is that of the whole resolution. */
function genforceRgb(has: (name: string) => boolean): StyleGan1Names['rgb'] {
  let last = 0;
  while (has(`synthesis.output${last + 1}.conv.weight`)) last++;
  return { weight: `synthesis.output${last}.conv.weight`, bias: `synthesis.output${last}.bias` };
}

/** lernapparat, style_gan: `karras2019stylegan-ffhq-1024x1024.for_g_all.pt`, without the average of w and without noise. */
export function lernapparatNames(): StyleGan1Names {
  return {
    title: 'a StyleGAN of lernapparat',
    isTensorFlow: false,
    average: undefined,
    dense: (i) => ({ weight: `g_mapping.dense${i}.weight`, bias: `g_mapping.dense${i}.bias` }),
    constant: 'g_synthesis.blocks.4x4.const',
    layer(l) {
      const block = `g_synthesis.blocks.${edgeOf(l)}x${edgeOf(l)}`;
      const conv = l % 2 === 0 ? 'conv0_up' : l === 1 ? 'conv' : 'conv1';
      const epilogue = `${block}.epi${(l % 2) + 1}`;
      return {
        conv: `${block}.${conv}.weight`,
        isConvTensorFlow: false,
        noise: undefined,
        noiseWeight: `${epilogue}.top_epi.noise.weight`,
        bias: l === 0 ? `${block}.bias` : `${block}.${conv}.bias`,
        style: { weight: `${epilogue}.style_mod.lin.weight`, bias: `${epilogue}.style_mod.lin.bias` },
      };
    },
    rgb: { weight: 'g_synthesis.torgb.weight', bias: 'g_synthesis.torgb.bias' },
    isFused: isLate,
    isSpare: (name) => /\.conv0_up\.intermediate\.kernel$/.test(name),
  };
}

/** NVlabs/stylegan, training/networks_stylegan.py. @param fusedScale Of its options: `auto`, or for all or none. */
export function tensorFlowNames(fusedScale: unknown): StyleGan1Names {
  return {
    title: "NVIDIA's StyleGAN",
    isTensorFlow: true,
    average: 'dlatent_avg',
    dense: (i) => ({ weight: `mapping/Dense${i}/weight`, bias: `mapping/Dense${i}/bias` }),
    constant: 'synthesis/4x4/Const/const',
    layer(l) {
      const op = l === 0 ? 'Const' : l === 1 ? 'Conv' : l % 2 === 0 ? 'Conv0_up' : 'Conv1';
      const name = `synthesis/${edgeOf(l)}x${edgeOf(l)}/${op}`;
      return {
        conv: `${name}/weight`,
        isConvTensorFlow: true,
        noise: `synthesis/noise${l}`,
        noiseWeight: `${name}/Noise/weight`,
        bias: `${name}/bias`,
        style: { weight: `${name}/StyleMod/weight`, bias: `${name}/StyleMod/bias` },
      };
    },
    rgb: { weight: 'synthesis/ToRGB_lod0/weight', bias: 'synthesis/ToRGB_lod0/bias' },
    isFused: (l) => (typeof fusedScale === 'boolean' ? fusedScale : isLate(l)),
    isSpare: (name) => /^synthesis\/(ToRGB_lod[1-9]\/(weight|bias)|lod)$/.test(name) || name === 'dlatent_avg',
  };
}
