import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync } from 'node:fs';
import { Rig } from './rig.ts';

export const isRoot = process.getuid!() === 0;
/** Whose the folders of an agent must be that runs user code in namespaces, where root starts it. */
export const NESTED_UID = 65_534;
/** Nobody else's on this computer: all of its processes may be killed. */
export const USER = 41_237;
const AS_NOBODY = ['setpriv', `--reuid=${NESTED_UID}`, `--regid=${NESTED_UID}`, '--clear-groups'];
const MACHINE = [
  'unshare',
  '--map-root-user',
  '--pid',
  '--mount',
  '--ipc',
  '--fork',
  '--kill-child',
  '--mount-proc',
];
/** Words before such an agent's command. */
export const nestedPrefix = isRoot ? [...AS_NOBODY, ...MACHINE] : MACHINE;
export const canNest =
  spawnSync(nestedPrefix[0]!, [...nestedPrefix.slice(1), process.execPath, '-e', '0']).status === 0;

/** An agent that is root and runs user code as a uid of its own. */
export async function startAsUid(user = USER): Promise<Rig> {
  const rig = await Rig.idle();
  chmodSync(rig.dir, 0o755);
  rig.launch({ MOBVIBE_AGENT_USER: `${user}:${user}` });
  await rig.connected();
  return rig;
}

/** An agent that runs user code in namespaces of its own. */
export async function startNested(): Promise<Rig> {
  const rig = await Rig.idle();
  if (isRoot) chownSync(rig.dir, NESTED_UID, NESTED_UID);
  rig.launch({ MOBVIBE_AGENT_USER: 'nested' }, nestedPrefix);
  await rig.connected();
  return rig;
}
