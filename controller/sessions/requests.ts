import type { ExecSpec } from '../agents/wire.ts';
import type { Config } from '../config.ts';
import { CodedError } from '../errors.ts';
import type { SessionSettings } from '../store/rows.ts';
import { SESSION_ID } from './names.ts';

export interface SandboxRequest {
  sessionId: string;
  /** A Fly region code, or several in order of preference: `sjc,lax,any`. */
  region?: string;
  cpuKind?: 'shared' | 'performance';
  cpus?: number;
  /** MiB. */
  memory?: number;
}

export interface ExecOptions {
  /** The caller's own id, up to 64 of `A-Z a-z 0-9 _ -`: the same id again attaches. Default: a random one. */
  execId?: string;
  /** Absolute, or relative to `/workspace`. */
  cwd?: string;
  env?: Record<string, string>;
  /** Default: `MOBVIBE_EXEC_TIMEOUT_MS`. */
  timeoutMs?: number;
  stdin?: string | Uint8Array;
}

const EXEC_ID = /^[A-Za-z0-9_-]{1,64}$/;
const REGIONS = /^[a-z]{2,5}(,[a-z]{2,5})*$/;
const CPUS = { shared: [1, 2, 4, 6, 8], performance: [1, 2, 4, 6, 8, 10, 12, 14, 16] };

export function checkSessionId(id: string): void {
  if (!SESSION_ID.test(id)) {
    const detail = `sessionId is ${show(id)}; expected 1 to 48 of a-z, 0-9 and -, not beginning or ending with -`;
    throw new CodedError('invalid_id', detail, { field: 'sessionId' });
  }
}

/** The whole settings of a session; Fly's rules for sizes are checked here, where the field can be named. */
export function sessionSettings(
  request: SandboxRequest,
  defaults: Pick<Config, 'flyRegion' | 'cpuKind' | 'cpus' | 'memoryMb'>,
): SessionSettings {
  const {
    region = defaults.flyRegion,
    cpuKind = defaults.cpuKind,
    cpus = defaults.cpus,
    memory = defaults.memoryMb,
  } = request;
  if (!REGIONS.test(region)) throw invalid('region', region, 'region codes such as "sjc" or "sjc,lax,any"');
  if (cpuKind !== 'shared' && cpuKind !== 'performance')
    throw invalid('cpuKind', cpuKind, '"shared" or "performance"');
  if (!CPUS[cpuKind].includes(cpus))
    throw invalid('cpus', cpus, `one of ${CPUS[cpuKind].join(', ')} for ${cpuKind}`);
  // Fly docs, "machines/guides-examples/machine-sizing".
  const unit = cpuKind === 'shared' ? 256 : 2048;
  const most = cpus * (cpuKind === 'shared' ? 2048 : 8192);
  const least = cpuKind === 'shared' ? unit : cpus * unit;
  if (!Number.isInteger(memory) || memory % unit !== 0 || memory < least || memory > most) {
    throw invalid(
      'memory',
      memory,
      `a multiple of ${unit} from ${least} to ${most} for ${cpus} ${cpuKind} CPUs`,
    );
  }
  return { region, cpu_kind: cpuKind, cpus, memory_mb: memory };
}

export function execSpec(
  command: string | string[],
  options: ExecOptions,
  defaultTimeoutMs: number,
): ExecSpec {
  const parts = Array.isArray(command) ? command : [command];
  const isText = parts.every((part) => typeof part === 'string' && !part.includes('\0'));
  if (!isText || parts[0] === undefined || parts[0].trim() === '') {
    throw new CodedError(
      'invalid_command',
      'command must be a text or a list of texts, not empty and without NUL',
      {
        field: 'command',
      },
    );
  }
  const { execId, cwd, env, timeoutMs = defaultTimeoutMs, stdin } = options;
  if (execId !== undefined && !EXEC_ID.test(execId)) {
    const detail = `execId is ${show(execId)}; expected 1 to 64 of A-Z, a-z, 0-9, _ and -`;
    throw new CodedError('invalid_id', detail, { field: 'execId' });
  }
  if (!Number.isInteger(timeoutMs) || timeoutMs < 1)
    throw invalid('timeoutMs', timeoutMs, 'a whole number from 1');
  return {
    command,
    timeout_ms: timeoutMs,
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    ...(stdin === undefined ? {} : { stdin: true }),
  };
}

function invalid(field: string, value: unknown, expected: string): CodedError {
  return new CodedError('invalid_request', `${field} is ${show(value)}; expected ${expected}`, { field });
}

function show(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 100) ?? String(value);
}
