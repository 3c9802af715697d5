import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ok, type Verdict, warning, wrong } from './finding.ts';

export interface DockerConfig {
  auths?: Record<string, { auth?: string }>;
  credHelpers?: Record<string, string>;
  credsStore?: string;
}

export type LogIn = { kind: 'none' } | { kind: 'helper'; helper: string } | { kind: 'plain'; auth: string };

/** Docker's own log-in, which is what images are pushed with; where it is kept in the clear, it is tried. */
export async function registryLogIn(
  host: string,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<Verdict> {
  const file = join(env.DOCKER_CONFIG ?? join(env.HOME ?? homedir(), '.docker'), 'config.json');
  const logIn = logInOf(await readConfig(file), host);
  if (logIn.kind === 'helper')
    return ok(`${host}: Docker asks docker-credential-${logIn.helper}; that was not tried`);
  const authorization = logIn.kind === 'plain' ? `Basic ${logIn.auth}` : undefined;
  const response = await fetch(`${scheme(host)}://${host}/v2/`, {
    headers: authorization === undefined ? {} : { authorization },
    redirect: 'manual',
    signal,
  }).catch((error: Error & { cause?: Error }) => {
    if (signal.aborted) throw error;
    return error.cause?.message ?? error.message;
  });
  if (typeof response === 'string') {
    return wrong(`${host} can't be reached: ${response}`, `curl -sS ${scheme(host)}://${host}/v2/`);
  }
  await response.body?.cancel();
  return judgeAnswer(host, logIn, response.status, response.headers.get('www-authenticate') ?? '');
}

/** No file is no log-in. */
async function readConfig(file: string): Promise<DockerConfig> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Error(`${file} can't be read as JSON`);
  }
}

/** In Docker's order: a helper for this host, then what is kept for it, by itself or in the store for all. */
export function logInOf({ auths = {}, credHelpers = {}, credsStore }: DockerConfig, host: string): LogIn {
  const helper = credHelpers[host];
  if (helper) return { kind: 'helper', helper };
  const kept = auths[host] ?? auths[`https://${host}`];
  if (kept?.auth) return { kind: 'plain', auth: kept.auth };
  return kept && credsStore ? { kind: 'helper', helper: credsStore } : { kind: 'none' };
}

export function judgeAnswer(host: string, { kind }: LogIn, status: number, challenge: string): Verdict {
  const mend = host === 'registry.fly.io' ? 'fly auth docker' : `docker login ${host}`;
  if (status === 200)
    return ok(kind === 'none' ? `${host} asks for no log-in` : `${host} takes Docker's log-in`);
  if (status !== 401 && status !== 403) return wrong(`${host} answers with HTTP ${status}`, mend);
  if (kind === 'none') return wrong(`Docker is not logged in to ${host}`, mend);
  if (/^bearer/i.test(challenge))
    return warning(`${host} asks for a token that was not tried; Docker has a log-in`, mend);
  return wrong(
    `${host} does not take Docker's log-in (HTTP ${status}): it has expired, or was revoked`,
    mend,
  );
}

/** Docker speaks HTTP to a registry on this computer. */
function scheme(host: string): string {
  return /^(127\.|localhost(:|$)|\[::1\])/.test(host) ? 'http' : 'https';
}
