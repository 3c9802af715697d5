/**
 * Local Fly as a process of its own. Prints one JSON line on stdout when it is ready and logs to stderr. SIGTERM or SIGINT stops the
 * machines as their `stop_config` says and ends; a second one, or the end of the process it is tethered to, ends at once.
 */
import { join } from 'node:path';
import type { Engine } from './engine.ts';
import { type MainOptions, parseMainOptions, UsageError, usage } from './options.ts';
import { startLocalFly } from './server.ts';
import { createSimulatedEngine } from './simulated/engine.ts';
import { StateDirInUse } from './state/lock.ts';

/** What an image given by `--image` boots: the agent in its folder. */
const entrypoint = ['/opt/node/bin/node', '--disable-sigusr1', '/opt/agent/agent.js'];
/** Less than what a supervisor usually waits before it kills (20 s). */
const stopDeadlineMs = 12_000;
/** An engine that cannot end its machines must not keep us: what they are made of dies with this process. */
const closeDeadlineMs = 5_000;

const log = (sentence: string, fields?: Record<string, unknown>) =>
  process.stderr.write(fields ? `${sentence} ${JSON.stringify(fields)}\n` : `${sentence}\n`);

await main().catch((error: Error) => {
  const isMistake = error instanceof UsageError || error instanceof StateDirInUse || 'code' in error;
  log(`local Fly cannot start: ${isMistake ? error.message : error.stack}`);
  if (error instanceof UsageError) log(usage);
  process.exit(error instanceof UsageError ? 2 : 1);
});

async function main(): Promise<void> {
  const options = parseMainOptions(process.argv.slice(2), process.env);
  const fly = await startLocalFly({
    ...options,
    engine: () => openEngine(options),
    tokens: [options.org === undefined ? options.token : { token: options.token, org: options.org }],
    log,
  });

  const endNow = () => {
    setTimeout(() => process.exit(1), closeDeadlineMs).unref();
    void fly.close().finally(() => process.exit());
  };
  const stop = () => {
    for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, endNow);
    setTimeout(endNow, stopDeadlineMs).unref();
    void fly.stopMachines().then(endNow);
  };
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => {
      if (!stopping) stop();
      stopping = true;
    });
  }
  if (options.tethered) process.stdin.resume().once('close', endNow).on('error', endNow);

  const { lacks, summary } = fly.engine.report();
  log(summary);
  process.stdout.write(`${JSON.stringify({ ready: true, url: fly.url, engine: fly.engine.name, lacks })}\n`);
}

async function openEngine({
  engine,
  stateDir,
  gatewayDir,
  images,
  dockerSocket,
  hostPorts,
}: MainOptions): Promise<Engine> {
  if (engine === 'simulated') return createSimulatedEngine();
  if (engine === 'docker') {
    const { createDockerEngine } = await import('./docker/index.ts');
    return createDockerEngine({ stateDir, socketPath: dockerSocket, hostPorts, log });
  }
  const { createNamespacesEngine } = await import('./namespaces/index.ts');
  return createNamespacesEngine({
    stateDir: join(stateDir, 'engine'),
    gatewayDir,
    images: Object.fromEntries(Object.entries(images).map(([ref, dir]) => [ref, { dir, entrypoint }])),
    nodeBinary: process.execPath,
    log,
  });
}
