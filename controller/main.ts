import { readConfig } from './config.ts';
import { type Controller, startController } from './controller.ts';
import { ConfigError } from './knobs.ts';
import { createLog } from './telemetry/log.ts';

/** As a shell says it of SIGINT: the second signal was obeyed. */
const FORCED = 130;
/** On top of MOBVIBE_SHUTDOWN_TIMEOUT_MS: for connections to be closed and last answers to be sent. */
const CLOSE_GRACE_MS = 15_000;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog(config.logLevel);
  let controller: Controller | undefined;
  let signals = 0;

  const stop = async (signal: string): Promise<void> => {
    signals += 1;
    log.info({ signal, signals }, 'signal');
    if (signals > 1) process.exit(FORCED);
    const overdue = setTimeout(() => {
      log.error('shutdown took too long; what is unfinished is for the next start');
      process.exit(1);
    }, config.shutdownTimeoutMs + CLOSE_GRACE_MS);
    overdue.unref();
    // A signal while it still starts: nothing is under way that would need draining.
    await controller?.close();
    process.exit(0);
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
