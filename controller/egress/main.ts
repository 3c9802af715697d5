/**
 * The egress proxy as a process of its own. Settings come from the environment (`settings.ts`); prints one JSON line when it is ready,
 * refusals go to stderr. SIGTERM or SIGINT ends it.
 */
import { ConfigError } from '../knobs.ts';
import { startEgressProxy } from './proxy.ts';
import { readEgressSettings } from './settings.ts';

async function main(): Promise<void> {
  const settings = readEgressSettings(process.env);
  const proxy = await startEgressProxy({ ...settings, log: (line) => process.stderr.write(`${line}\n`) });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => void proxy.close().then(() => process.exit(0)));
  }
  process.stdout.write(`${JSON.stringify({ ready: true, port: proxy.port })}\n`);
}

main().catch((error: unknown) => {
  const text = error instanceof ConfigError ? error.message : `The egress proxy could not start: ${error}`;
  process.stderr.write(`${text}\n`);
  process.exit(1);
});
