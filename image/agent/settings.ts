import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What the launcher tells the agent; see `AgentEnv` in controller/agents/wire.ts for the first seven. */
export interface Settings {
  dialUrl: string;
  token: string;
  sandbox: string;
  /** The sandbox's fencing token. */
  fence: number;
  /** `1000:1000`, `nested` or absent: run user code as oneself. */
  user: string | undefined;
  egressProxyUrl: string | undefined;
  orphanTimeoutMs: number;
  /** `MOBVIBE_WORKSPACE_DIR`, default `/workspace`. */
  workspaceDir: string;
  /** `MOBVIBE_AGENT_STATE_DIR`, default a folder below the system's temporary one: spools of output and of packs. */
  stateDir: string;
  /** `MOBVIBE_USER_HOME_DIR`: HOME of user code; made where it's missing. */
  homeDir: string;
  /** `MOBVIBE_AGENT_RESTARTED`, set by init: why the agent before this one in the same machine ended. */
  restarted: string | undefined;
}

/** A variable of the agent's environment is missing or unusable. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

/** Reads the agent's variables and removes every one of them from `env`, the token first of all. */
export function takeSettings(env: NodeJS.ProcessEnv): Settings {
  const taken: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('MOBVIBE_')) continue;
    if (value) taken[name] = value;
    delete env[name];
  }
  const required = (name: string): string => {
    const value = taken[name];
    if (value === undefined) throw new SettingsError(`${name} is not set`);
    return value;
  };
  const milliseconds = (name: string, fallback: number): number => {
    const text = taken[name];
    if (text === undefined) return fallback;
    const value = Number(text);
    if (!Number.isInteger(value) || value <= 0) {
      throw new SettingsError(`${name} must be a whole number of milliseconds above 0, it is "${text}"`);
    }
    return value;
  };
  const fence = (): number => {
    const value = Number(taken.MOBVIBE_FENCE ?? 0);
    if (Number.isSafeInteger(value) && value >= 0) return value;
    throw new SettingsError(`MOBVIBE_FENCE must be a whole number, it is "${taken.MOBVIBE_FENCE}"`);
  };
  return {
    dialUrl: required('MOBVIBE_AGENT_DIAL_URL'),
    token: required('MOBVIBE_AGENT_TOKEN'),
    sandbox: required('MOBVIBE_SANDBOX'),
    fence: fence(),
    user: taken.MOBVIBE_AGENT_USER,
    egressProxyUrl: taken.MOBVIBE_EGRESS_PROXY_URL,
    orphanTimeoutMs: milliseconds('MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS', 1_800_000),
    workspaceDir: taken.MOBVIBE_WORKSPACE_DIR ?? '/workspace',
    stateDir: taken.MOBVIBE_AGENT_STATE_DIR ?? join(tmpdir(), 'mobvibe-agent'),
    homeDir: taken.MOBVIBE_USER_HOME_DIR ?? '/home/user',
    restarted: taken.MOBVIBE_AGENT_RESTARTED,
  };
}
