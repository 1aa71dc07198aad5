// What sabotage.mjs breaks: one edit each, of a text that stands once in its file. A change of that text moves the edit with it.

/**
 * @typedef {object} Sabotage
 * @property {string} figure The one that has to fail.
 * @property {string} what The damage, in words.
 * @property {string} file
 * @property {string} from
 * @property {string} to
 */

/** @type {readonly Sabotage[]} */
export const sabotages = [
  {
    figure: 'R2',
    what: 'files that are not synced',
    file: 'lib/train/files.ts',
    from: 'await handle.writeFile(bytes);\n      await handle.sync();',
    to: 'await handle.writeFile(bytes);',
  },
];
