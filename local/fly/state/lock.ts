import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';

/** The folder is used by another local Fly that is alive. */
export class StateDirInUse extends Error {
  override readonly name = 'StateDirInUse';
}

/**
 * Takes the folder for this process until the returned function is called or the process ends, however it ends: the lock is a
 * listening socket in Linux's abstract namespace, which the kernel drops with its owner, so that there is no stale lock to judge.
 * Elsewhere the folder is not locked.
 */
export async function lockStateDir(stateDir: string): Promise<() => Promise<void>> {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const ownerFile = join(stateDir, 'owner.json');
  const server = process.platform === 'linux' ? await claim(realpathSync(stateDir), ownerFile) : undefined;
  writeFileSync(ownerFile, JSON.stringify({ pid: process.pid }), { mode: 0o600 });
  return async () => {
    rmSync(ownerFile, { force: true });
    if (server) await new Promise((resolve) => server.close(resolve));
  };
}

function claim(path: string, ownerFile: string): Promise<Server> {
  const name = `\0mobvibe-local-fly-${createHash('sha256').update(path).digest('hex').slice(0, 32)}`;
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error);
      reject(
        new StateDirInUse(`state folder ${path} is in use by another local Fly${describeOwner(ownerFile)}`),
      );
    });
    server.listen(name, () => resolve(server.unref()));
  });
}

function describeOwner(ownerFile: string): string {
  try {
    return ` (process ${JSON.parse(readFileSync(ownerFile, 'utf8')).pid})`;
  } catch {
    return '';
  }
}
