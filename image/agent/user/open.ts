import { dirname } from 'node:path';
import type { Settings } from '../settings.ts';
import type { Nested } from './nested.ts';
import { UserSide } from './side.ts';

/** Makes the side of the machine on which user code runs. */
export async function openUserSide(settings: Settings, machineEnv: NodeJS.ProcessEnv): Promise<UserSide> {
  const nested = settings.user === 'nested' ? await openNested(settings) : undefined;
  const user = new UserSide(settings, machineEnv, nested);
  await user.prepare(settings);
  return user;
}

async function openNested(settings: Settings): Promise<Nested> {
  const { Nested } = await import('./nested.ts');
  const nested = new Nested(foldersToHide(settings));
  await nested.open();
  return nested;
}

/** The agent's state, and the folders of the sockets through which it reaches out. */
function foldersToHide(settings: Settings): string[] {
  const dial = /^ws\+unix:(?:\/\/)?(\/[^:]+):/.exec(settings.dialUrl)?.[1];
  const egress = /^unix:(?:\/\/)?(\/.+)$/.exec(settings.egressProxyUrl ?? '')?.[1];
  const sockets = [dial, egress].filter((path) => path !== undefined).map((path) => dirname(path));
  return [...new Set([settings.stateDir, ...sockets])];
}
