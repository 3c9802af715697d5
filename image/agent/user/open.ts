import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { dirname } from 'node:path';
import type { Settings } from '../settings.ts';
import { limitByInheritance, limitsInShell, machineLimit, userShare } from './limits.ts';
import type { Nested } from './nested.ts';
import { UserProcesses, type UserProcessesParts } from './quiet.ts';
import { MARK, type Owner, parseOwner, UserSide } from './side.ts';
import { ofAgent, ofNamespaces, ofUid } from './whose.ts';

export interface UserCode {
  side: UserSide;
  processes: UserProcesses;
}

/** Makes the side of the machine on which user code runs. What an earlier agent has left running there is ended. */
export async function openUserSide(
  settings: Settings,
  machineEnv: NodeJS.ProcessEnv,
  now: () => number,
): Promise<UserCode> {
  const most = userShare(machineLimit());
  const user = await (settings.user === 'nested' ? nestedUser : plainUser)(settings, most);
  const processes = new UserProcesses({ ...user, now });
  if (settings.restarted !== undefined) await processes.end(0);
  await user.nested?.open();
  const side = new UserSide(settings, machineEnv, user.nested, user.env);
  await side.prepare(settings);
  return { side, processes };
}

interface Way extends Omit<UserProcessesParts, 'now'> {
  nested?: Nested;
  /** Added to the environment of user code. */
  env: Record<string, string>;
}

async function nestedUser(settings: Settings, most: number): Promise<Way> {
  const { Nested } = await import('./nested.ts');
  const find = ofNamespaces(() => nested.ownSession);
  const nested: Nested = new Nested(foldersToHide(settings), limitsInShell(find, most));
  return { find, nested, killAll: () => nested.close(), env: {} };
}

async function plainUser(settings: Settings, most: number): Promise<Way> {
  const owner = parseOwner(settings.user);
  if (owner !== undefined) {
    await limitByInheritance(most);
    return { find: ofUid(owner.uid), killAll: () => killAs(owner), env: {} };
  }
  // Whose agent is who: several may run as one user. A limit of processes would be that of all that this user does.
  const mark = createHash('sha256').update(settings.stateDir).digest('hex').slice(0, 16);
  return { find: ofAgent(`${MARK}=${mark}`), env: { [MARK]: mark } };
}

/** The kernel signals all that a uid has while nobody can fork. Where the user has too many processes it can't be started. */
async function killAs(owner: Owner): Promise<void> {
  const child = spawn('kill', ['-KILL', '-1'], { ...owner, stdio: 'ignore', env: { PATH: '/usr/bin:/bin' } });
  await once(child, 'exit').catch(() => {});
}

/** The agent's state, and the folders of the sockets through which it reaches out. */
function foldersToHide(settings: Settings): string[] {
  const dial = /^ws\+unix:(?:\/\/)?(\/[^:]+):/.exec(settings.dialUrl)?.[1];
  const egress = /^unix:(?:\/\/)?(\/.+)$/.exec(settings.egressProxyUrl ?? '')?.[1];
  const sockets = [dial, egress].filter((path) => path !== undefined).map((path) => dirname(path));
  return [...new Set([settings.stateDir, ...sockets])];
}
