import { randomUUID } from 'node:crypto';
import { mkdirSync, stat } from 'node:fs';
import { BOOT_HEADER, RESTARTED_HEADER } from '../../controller/agents/wire.ts';
import { startHeartbeat } from './heartbeat.ts';
import { log, messageOf } from './log.ts';
import { takeSettings } from './settings.ts';
import { Tunnel } from './tunnel/tunnel.ts';
import { closeInherited } from './user/descriptors.ts';

const ORPHANED_EXIT = 70;
const FAILED_EXIT = 1;
const END_EXECS_AFTER_MS = 5_000;

closeInherited();
const settings = takeSettings(process.env);
process.umask(0o022);
mkdirSync(settings.stateDir, { recursive: true, mode: 0o700 });

startHeartbeat(settings.stateDir);
// Makes the threads that work on files, all of them: when user code has taken all that there are, it would be too late.
stat('/', () => {});
const bootId = randomUUID();

// The link is dialed first; all that serves it is loaded while the controller answers.
const sandbox = import('./sandbox.ts').then(({ openSandbox }) => openSandbox(settings, process.env, bootId));
const tunnel = new Tunnel({
  url: settings.dialUrl,
  token: settings.token,
  headers: {
    [BOOT_HEADER]: bootId,
    ...(settings.restarted === undefined ? {} : { [RESTARTED_HEADER]: settings.restarted }),
  },
  orphanTimeoutMs: settings.orphanTimeoutMs,
  router: sandbox.then(({ router }) => router),
  now: Date.now,
  random: Math.random,
  onOrphaned: () => void stop(`no controller was reached for ${settings.orphanTimeoutMs} ms`, ORPHANED_EXIT),
});

let stopping = false;
async function stop(reason: string, code: number): Promise<void> {
  if (stopping) return;
  stopping = true;
  log('info', 'agent stops', { reason });
  await sandbox.then(({ close }) => close(END_EXECS_AFTER_MS)).catch(() => {});
  tunnel.close();
  process.exit(code);
}

process.on('SIGTERM', () => void stop('SIGTERM', 0));
process.on('SIGINT', () => void stop('SIGINT', 0));
sandbox.catch((error: unknown) => {
  log('error', 'the sandbox could not be opened', { detail: messageOf(error) });
  process.exit(FAILED_EXIT);
});
void tunnel.run();
