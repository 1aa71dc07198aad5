// The 43 attributes of the paper (section 4.1): weight, age and smile, then CelebA's 40 in CelebA's order.
// A name's place is its number in native/faces/attributes.cc: add at the end only.
import { invalid } from '../errors.js';
import { nearest } from '../nearest.js';

/** Names of the 43 attributes that change a drawn face (paper, section 4.1): weight, age and smile, then the 40 of CelebA. */
// biome-ignore format: one screen
export const attributes = [
  'weight', 'age', 'smile', '5_o_Clock_Shadow', 'Arched_Eyebrows', 'Attractive', 'Bags_Under_Eyes', 'Bald', 'Bangs', 'Big_Lips', 'Big_Nose',
  'Black_Hair', 'Blond_Hair', 'Blurry', 'Brown_Hair', 'Bushy_Eyebrows', 'Chubby', 'Double_Chin', 'Eyeglasses', 'Goatee', 'Gray_Hair',
  'Heavy_Makeup', 'High_Cheekbones', 'Male', 'Mouth_Slightly_Open', 'Mustache', 'Narrow_Eyes', 'No_Beard', 'Oval_Face', 'Pale_Skin',
  'Pointy_Nose', 'Receding_Hairline', 'Rosy_Cheeks', 'Sideburns', 'Smiling', 'Straight_Hair', 'Wavy_Hair', 'Wearing_Earrings',
  'Wearing_Hat', 'Wearing_Lipstick', 'Wearing_Necklace', 'Wearing_Necktie', 'Young',
] as const;

/** The name of an attribute. */
export type Attribute = (typeof attributes)[number];

/**
 * The number of an attribute: its place in {@link attributes}.
 *
 * @throws ComFaceError INVALID_INPUT naming the nearest name.
 */
export function attributeIndex(name: string): number {
  const index = (attributes as readonly string[]).indexOf(name);
  if (index >= 0) return index;
  const near = nearest(name, attributes);
  throw invalid(
    'attribute',
    'one of the 43 attribute names',
    name,
    near === undefined ? `Use one of ${attributes.join(', ')}.` : `Did you mean ${near}?`,
  );
}
