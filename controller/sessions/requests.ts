import { guestProblem } from '../../fly/index.ts';
import type { ExecSpec } from '../agents/wire.ts';
import type { Config } from '../config.ts';
import { CodedError } from '../errors.ts';
import type { SessionSettings } from '../store/rows.ts';
import { EXEC_ID, SESSION_ID } from './names.ts';

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

const REGIONS = /^[a-z]{2,5}(,[a-z]{2,5})*$/;

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
  const settings: SessionSettings = { region, cpu_kind: cpuKind, cpus, memory_mb: memory };
  const problem = guestProblem(settings);
  if (problem !== undefined) {
    const field = ({ cpu_kind: 'cpuKind', cpus: 'cpus', memory_mb: 'memory' } as const)[problem.field];
    throw invalid(field, settings[problem.field], problem.expected);
  }
  return settings;
}

/** What the agent would refuse as well, said here, where nothing has to be sent for it. */
export function checkCommand(spec: { command: string | string[]; env?: Record<string, string> }): void {
  const words = typeof spec.command === 'string' ? [spec.command] : spec.command;
  const field = 'command';
  if (words.length === 0 || words[0]!.trim() === '') {
    throw new CodedError('invalid_command', 'command is empty', { field });
  }
  const withNul = words.findIndex((word) => word.includes('\0'));
  if (withNul >= 0) {
    const where = typeof spec.command === 'string' ? 'command' : `command.${withNul}`;
    throw new CodedError('invalid_command', `${where} holds a NUL character`, { field });
  }
  for (const [name, value] of Object.entries(spec.env ?? {})) {
    if (name === '' || /[=\0]/.test(name) || value.includes('\0')) {
      throw new CodedError(
        'invalid_request',
        `env has the variable ${JSON.stringify(name)}: a name must not be empty or hold "=" or NUL, a value no NUL`,
        { field: 'env' },
      );
    }
  }
}

export function execSpec(
  command: string | string[],
  options: ExecOptions,
  defaultTimeoutMs: number,
): ExecSpec {
  checkCommand({ command, ...(options.env && { env: options.env }) });
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
