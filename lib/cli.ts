#!/usr/bin/env node
// The program `comface`. The command line is in cli/program.ts; this file only says, without a stack, that it does not load: this package or one that
// it needs is not whole, as after an installation without optional dependencies.
try {
  await import('./cli/program.js');
} catch (error) {
  const hint = 'Install comface again, with optional dependencies: npm install --include=optional comface';
  console.error([`comface: ${error instanceof Error ? error.message : String(error)}`, `  ${hint}`].join('\n'));
  process.exitCode = 1;
}
