// What errors of native code say to do.
import { expect, test } from 'vitest';
import { native } from '../lib/native.ts';

test('a broken picture has a hint that fits one of no data set too', async () => {
  await expect(native().module.decodeJpeg(Buffer.from('no JPEG'))).rejects.toMatchObject({
    code: 'CORRUPT_FILE',
    hint: 'Replace the picture by a sound JPEG; one that comface drew comes back when its data set is made again.',
  });
});
