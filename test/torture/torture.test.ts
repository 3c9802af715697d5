import { test } from 'vitest';
import { probeHost } from '../../local/fly/namespaces/host.ts';
import { describeFailures, summary } from '../../torture/report.ts';
import { torture } from '../../torture/run.ts';

/** MOBVIBE_TEST_SEED repeats a run; MOBVIBE_TEST_SECONDS makes it longer. */
const SEED = Number(process.env.MOBVIBE_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SECONDS = Number(process.env.MOBVIBE_TEST_SECONDS ?? 35);

const reason = await probeHost().then(
  () => undefined,
  (error: Error) => error.message,
);

test.skipIf(reason !== undefined)(
  `whatever breaks, nothing that was acknowledged is lost (seed ${SEED})${reason === undefined ? '' : `: ${reason}`}`,
  async () => {
    const report = await torture({ seed: SEED, seconds: SECONDS, clients: 3, controllers: 2 });
    if (report.failures.length === 0) return;
    throw new Error(
      `${summary(report)}\nlogs and histories: ${report.folder}\n\n${describeFailures(report)}`,
    );
  },
  // Only a hang is to be caught.
  SECONDS * 1000 + 600_000,
);
