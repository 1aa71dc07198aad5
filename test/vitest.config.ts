// Four groups, one after the other: the rooms and the figures two files at a time, then what measures time, alone, and the package, installed.
import { defineConfig } from 'vitest/config';

const isLong = process.env.COMFACE_SOAK === 'long';
const common = { testTimeout: 120_000, hookTimeout: 60_000, pool: 'forks' } as const;

export default defineConfig({
  test: {
    reporters: ['default', './test/figures/reporter.ts'],
    projects: [
      { test: { ...common, name: 'rooms', include: ['test/*.test.ts'], maxWorkers: 2, sequence: { groupOrder: 0 } } },
      {
        test: { ...common, name: 'figures', include: ['test/figures/*.test.ts'], maxWorkers: isLong ? 1 : 2, sequence: { groupOrder: 1 } },
      },
      { test: { ...common, name: 'timed', include: ['test/figures/timed/*.test.ts'], maxWorkers: 1, sequence: { groupOrder: 2 } } },
      { test: { ...common, name: 'package', include: ['test/package/*.test.ts'], maxWorkers: 1, sequence: { groupOrder: 3 } } },
    ],
  },
});
