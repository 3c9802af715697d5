import { access, constants } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Account } from './account.ts';
import { PostgresError } from './errors.ts';
import { type Program, startProgram } from './program.ts';
import { serverOptions } from './settings.ts';

/** How long backends of a killed postmaster may take to notice and let go of its shared memory. */
const ORPHANS_TIMEOUT_MS = 10_000;
const ORPHANS_RETRY_MS = 200;
const PORT_ATTEMPTS = 5;

export interface PostmasterOptions {
  postgres: string;
  clusterDir: string;
  account: Account | undefined;
  /** 0: a free one. */
  port: number;
  throwAway: boolean;
  startTimeoutMs: number;
  onLine?: (line: string) => void;
}

export interface Postmaster extends Program {
  port: number;
}

/** Starts Postgres and waits until it takes connections. */
export async function startPostmaster(options: PostmasterOptions): Promise<Postmaster> {
  const orphansDeadline = Date.now() + ORPHANS_TIMEOUT_MS;
  for (let portAttempt = 1; ; ) {
    const port = options.port || (await freePort());
    const { program, ready } = await launch(options, port);
    if (await ready) return { ...program, port };

    const reason = refusal(program.output);
    if (reason === 'orphans' && Date.now() < orphansDeadline) {
      await delay(ORPHANS_RETRY_MS);
      continue;
    }
    if (reason === 'port' && options.port === 0 && portAttempt < PORT_ATTEMPTS) {
      portAttempt += 1;
      continue;
    }
    const output = program.output.join('\n');
    if (reason === 'port') throw new PostgresError('port_in_use', `port ${port} on 127.0.0.1 is taken`);
    if (reason === 'folder') {
      throw new PostgresError(
        'folder_in_use',
        `${options.clusterDir} is in use by another Postgres:\n${output}`,
      );
    }
    throw new PostgresError('start_failed', `Postgres did not start on ${options.clusterDir}:\n${output}`);
  }
}

/** Why Postgres did not start, as far as we can do something about it. Its messages are in English: it runs with `LC_ALL=C`. */
function refusal(output: string[]): 'orphans' | 'port' | 'folder' | undefined {
  const text = output.join('\n');
  if (text.includes('pre-existing shared memory block')) return 'orphans';
  if (text.includes('Address already in use')) return 'port';
  if (text.includes('lock file "postmaster.pid" already exists')) return 'folder';
  return undefined;
}

/** `ready` is false when Postgres has ended, by itself or at the deadline; its output says why. */
async function launch(
  options: PostmasterOptions,
  port: number,
): Promise<{ program: Program; ready: Promise<boolean> }> {
  const args = ['-D', options.clusterDir, ...serverOptions({ port, throwAway: options.throwAway })];
  // The kernel asks Postgres for a fast shutdown when we die, however we die. `setpriv` arms this after the change of user, which would
  // disarm it. Elsewhere than on Linux the next start finds and stops what we left.
  const setpriv = await findSetpriv();
  const command = [...(setpriv ? [setpriv, '--pdeathsig', 'INT', '--'] : []), options.postgres, ...args];

  const { promise: accepting, resolve } = Promise.withResolvers<boolean>();
  const program = startProgram(command[0]!, command.slice(1), {
    account: options.account,
    cwd: options.clusterDir,
    onLine: (line) => {
      if (line.includes('database system is ready to accept connections')) resolve(true);
      options.onLine?.(line);
    },
  });
  const deadline = setTimeout(() => {
    program.output.push(`not ready after ${options.startTimeoutMs} ms, so it was stopped`);
    program.process.kill('SIGQUIT');
  }, options.startTimeoutMs);
  const ready = Promise.race([accepting, program.ended.then(() => false)]).finally(() =>
    clearTimeout(deadline),
  );
  return { program, ready };
}

/** Part of util-linux. */
async function findSetpriv(): Promise<string | undefined> {
  if (process.platform !== 'linux') return undefined;
  for (const dir of (process.env.PATH ?? '').split(':').filter(Boolean)) {
    const file = join(dir, 'setpriv');
    try {
      await access(file, constants.X_OK);
      return file;
    } catch {}
  }
  return undefined;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Fast shutdown: sessions are ended, everything is written. After 10 s an immediate one, which the next start recovers from. */
export async function stopPostmaster(postmaster: Postmaster): Promise<void> {
  const steps = [
    ['SIGINT', 10_000],
    ['SIGQUIT', 5_000],
  ] as const;
  for (const [signal, patienceMs] of steps) {
    postmaster.process.kill(signal);
    const ended = await Promise.race([
      postmaster.ended.then(() => true),
      delay(patienceMs, false, { ref: false }),
    ]);
    if (ended) return;
  }
  throw new PostgresError(
    'stop_failed',
    `Postgres (process ${postmaster.process.pid}) does not stop:\n${postmaster.output.join('\n')}`,
  );
}
