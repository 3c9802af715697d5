import { stat } from 'node:fs/promises';
import Docker from 'dockerode';
import { EngineError } from '../engine.ts';

/** Docker Engine 20.10 (2020): the oldest that was tried. */
const OLDEST_API = '1.41';
/** For calls that Docker answers by itself. */
const CALL_TIMEOUT_MS = 30_000;

export interface DockerClient {
  /** For calls that are answered soon. */
  calls: Docker;
  /** For what may be silent for long: waits, output, pulls. Each use has a deadline of its own, or ends with what it looks at. */
  streams: Docker;
  info: DockerInfo;
}

/** The parts of `GET /info` that we read (Docker Engine API 1.41). */
export interface DockerInfo {
  ServerVersion: string;
  OperatingSystem: string;
  CgroupVersion?: string;
  Driver: string;
  NCPU: number;
  MemoryLimit: boolean;
  SwapLimit: boolean;
  CpuCfsQuota: boolean;
  PidsLimit: boolean;
  IPv4Forwarding: boolean;
  InitBinary: string;
}

/** Throws `unsupported_host` with what is missing: the socket, the right to use it, an answer, a recent Docker, Linux. */
export async function connectDocker(socketPath: string): Promise<DockerClient> {
  await checkSocket(socketPath);
  const { calls, streams } = dockerAt(socketPath);
  try {
    const { ApiVersion, Os, Version } = await calls.version();
    if (Os !== 'linux')
      throw unsupported(`Docker at ${socketPath} runs ${Os} containers; machines need Linux`);
    if (compareVersions(ApiVersion, OLDEST_API) < 0) {
      throw unsupported(`Docker ${Version} at ${socketPath} is too old: 20.10 or later is needed`);
    }
    return { calls, streams, info: await calls.info() };
  } catch (error) {
    if (error instanceof EngineError) throw error;
    if ((error as NodeJS.ErrnoException).code === 'EACCES') throw denied(socketPath);
    throw unsupported(
      `Docker does not answer at ${socketPath} (${reasonOf(error)}). Is dockerd running?`,
      error,
    );
  }
}

export function dockerAt(socketPath: string): Pick<DockerClient, 'calls' | 'streams'> {
  return { calls: new Docker({ socketPath, timeout: CALL_TIMEOUT_MS }), streams: new Docker({ socketPath }) };
}

/** The HTTP status of Docker's refusal; `undefined` for a failure of another kind. */
export function statusOf(error: unknown): number | undefined {
  return (error as { statusCode?: number }).statusCode;
}

/** Docker's own words where it has given any. */
export function reasonOf(error: unknown): string {
  const { json, message } = error as Error & { json?: { message?: string } };
  return json?.message ?? message;
}

async function checkSocket(path: string): Promise<void> {
  const hint = 'Install and start Docker, or name its socket (--docker-socket)';
  const kind = await stat(path).catch((error: NodeJS.ErrnoException) => error);
  if (kind instanceof Error) {
    if (kind.code === 'EACCES') throw denied(path);
    throw unsupported(`There is no Docker socket at ${path}. ${hint}`, kind);
  }
  if (!kind.isSocket()) throw unsupported(`${path} is no socket. ${hint}`);
}

const denied = (path: string) =>
  unsupported(
    `Permission denied: this user may not use the Docker socket ${path}. On most systems members of the group "docker" may`,
  );

const unsupported = (message: string, cause?: unknown) =>
  new EngineError('unsupported_host', message, { cause });

function compareVersions(one: string, other: string): number {
  const [major = 0, minor = 0] = one.split('.').map(Number);
  const [otherMajor = 0, otherMinor = 0] = other.split('.').map(Number);
  return major - otherMajor || minor - otherMinor;
}
