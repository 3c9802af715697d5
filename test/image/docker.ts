import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const MOST_OUTPUT = 64 << 20;

/** The command's stdout, trimmed. Rejects with its stderr. */
export async function docker(args: string[], env: Record<string, string> = {}): Promise<string> {
  const options = { env: { ...process.env, ...env }, maxBuffer: MOST_OUTPUT };
  return (await promisify(execFile)('docker', args, options)).stdout.trim();
}

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a container to its end, whatever that is. */
export async function runContainer(args: string[]): Promise<Ended> {
  const child = spawn('docker', ['run', '--rm', '--network', 'none', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out = { stdout: '', stderr: '' };
  child.stdout.on('data', (text) => {
    out.stdout += text;
  });
  child.stderr.on('data', (text) => {
    out.stderr += text;
  });
  const [code] = await once(child, 'close');
  return { code, stdout: out.stdout.trim(), stderr: out.stderr.trim() };
}

/** Why nothing can be built here; undefined: it can. */
export function engineMissing(): string | undefined {
  if (process.platform !== 'linux') return 'sockets of this machine are shared with containers on Linux only';
  if (/^(tcp|ssh|https?):/.test(process.env.DOCKER_HOST ?? ''))
    return 'the Docker engine is not on this machine';
  try {
    execFileSync('docker', ['version', '--format', '{{.Server.Version}}'], {
      stdio: 'pipe',
      timeout: 10_000,
    });
    return undefined;
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: Buffer };
    return code === 'ENOENT'
      ? 'docker is not installed'
      : `no Docker engine answers: ${String(stderr).trim()}`;
  }
}
