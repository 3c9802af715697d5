import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: ['default', './test/counting-reporter.ts'],
    // Tests start real processes and a real Postgres: the limit only catches a hang, it is no measure of speed.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 50_000 } },
    pool: 'forks',
    // Most of their time they wait: three keep two cores busy.
    maxWorkers: 3,
  },
});
