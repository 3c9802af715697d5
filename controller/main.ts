import { readConfig } from './config.ts';
import { type Controller, startController } from './controller.ts';
import { ConfigError } from './knobs.ts';
import { createLog } from './telemetry/log.ts';

/** As a shell says it of SIGINT: the second signal was obeyed. */
const FORCED = 130;
/** A shutdown keeps to MOBVIBE_SHUTDOWN_TIMEOUT_MS by itself; should it hang all the same, this much later it is over. */
const OVERDUE_MS = 1_000;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog(config.logLevel);
  let controller: Controller | undefined;
  let signals = 0;

  const stop = async (signal: string): Promise<void> => {
    signals += 1;
    log.info({ signal, signals }, 'signal');
    if (signals > 1) process.exit(FORCED);
    const end = (inTime: boolean): void => {
      const unfinished = controller?.unfinished ?? [];
      if (inTime && unfinished.length === 0) process.exit(0);
      log.error({ unfinished }, 'shutdown is over; what is unfinished is for the next start');
      process.exit(1);
    };
    setTimeout(end, config.shutdownTimeoutMs + OVERDUE_MS, false).unref();
    // A signal while it still starts: nothing is under way that would need draining.
    await controller?.close();
    end(true);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(signal));
  // A fault that nobody foresaw leaves us in a state that nobody knows: the next start takes up the rows.
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'uncaught error');
    process.exit(1);
  });

  controller = await startController(config, { log });
  process.stdout.write(`${JSON.stringify({ ready: true, url: controller.url })}\n`);
}

main().catch((error: unknown) => {
  const text = error instanceof ConfigError ? error.message : `The controller could not start: ${error}`;
  process.stderr.write(`${text}\n`);
  process.exit(1);
});
