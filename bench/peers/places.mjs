// @ts-check
// Where rivals lie that are no dependency of the package.
import { root } from '../contenders.mjs';

/** The folder in whose node_modules TensorFlow.js is: COMFACE_TFJS, else the project's. */
export const tensorFlowFolder = () => process.env.COMFACE_TFJS ?? root;
