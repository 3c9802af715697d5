import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/**
 * Where the local stack keeps its things between starts: `MOBVIBE_LOCAL_STATE_DIR`, or `/var/lib/mobvibe` for root (whose home
 * other users, the one that runs Postgres among them, can't enter), or `$XDG_STATE_HOME/mobvibe`, or `~/.local/state/mobvibe`.
 */
export function localStateDir(env: NodeJS.ProcessEnv, uid: number | undefined): string {
  if (env.MOBVIBE_LOCAL_STATE_DIR) return resolve(env.MOBVIBE_LOCAL_STATE_DIR);
  if (uid === 0) return '/var/lib/mobvibe';
  return join(env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'mobvibe');
}

/** Where the command line looks for a running local stack: `MOBVIBE_CONFIG_FILE` or `~/.mobvibe/local.json`. */
export function localConfigFile(env: NodeJS.ProcessEnv): string {
  return env.MOBVIBE_CONFIG_FILE
    ? resolve(env.MOBVIBE_CONFIG_FILE)
    : join(homedir(), '.mobvibe', 'local.json');
}
