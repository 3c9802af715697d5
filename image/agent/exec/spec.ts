import type { ExecSpec } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';

const DEFAULT_TIMEOUT_MS = 300_000;
const MAX_TIMEOUT_MS = 7 * 86_400_000;
const ID = /^[A-Za-z0-9_-]{1,64}$/;

/** An `ExecSpec` that was checked and whose defaults are filled in. */
export interface Command {
  command: string[] | string;
  cwd: string;
  env: Record<string, string>;
  timeoutMs: number;
  stdin: boolean;
  /** Equal for equal specs, whatever the order of their fields. */
  key: string;
}

export function checkExecId(id: string): string {
  if (!ID.test(id)) {
    throw new Fault('invalid_id', `"${id}" is not 1 to 64 of the characters A-Z a-z 0-9 _ -`, {
      field: 'id',
    });
  }
  return id;
}

export function parseExecSpec(body: Record<string, unknown>): Command {
  const {
    command,
    cwd = '',
    env = {},
    timeout_ms = DEFAULT_TIMEOUT_MS,
    stdin = false,
  } = body as Partial<ExecSpec>;
  const checked = {
    command: checkCommand(command),
    cwd: checkCwd(cwd),
    env: checkEnv(env),
    timeoutMs: checkTimeout(timeout_ms),
    stdin: checkFlag(stdin),
  };
  return { ...checked, key: JSON.stringify(checked) };
}

function checkCommand(command: unknown): string[] | string {
  const words = typeof command === 'string' ? [command] : command;
  if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) {
    throw new Fault('invalid_command', 'The command is neither a string nor an array of strings', {
      field: 'command',
    });
  }
  if (!words[0]?.trim()) {
    throw new Fault('invalid_command', 'The command is empty', { field: 'command' });
  }
  if (words.some((word) => word.includes('\0'))) {
    throw new Fault('invalid_command', 'The command holds a NUL character', { field: 'command' });
  }
  return command as string[] | string;
}

function checkCwd(cwd: unknown): string {
  if (typeof cwd !== 'string') throw new Fault('invalid_request', 'cwd is not a string', { field: 'cwd' });
  if (cwd.includes('\0')) throw new Fault('invalid_path', 'cwd holds a NUL character', { field: 'cwd' });
  return cwd;
}

function checkEnv(env: unknown): Record<string, string> {
  if (typeof env !== 'object' || env === null || Array.isArray(env)) {
    throw new Fault('invalid_request', 'env is not an object of strings', { field: 'env' });
  }
  const entries = Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, value] of entries) {
    if (name === '' || /[=\0]/.test(name) || typeof value !== 'string' || value.includes('\0')) {
      throw new Fault('invalid_request', `env has a variable that can't be set: ${JSON.stringify(name)}`, {
        field: 'env',
      });
    }
  }
  return Object.fromEntries(entries);
}

function checkTimeout(value: unknown): number {
  if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > MAX_TIMEOUT_MS) {
    const detail = `timeout_ms must be a whole number from 1 to ${MAX_TIMEOUT_MS}, it is ${JSON.stringify(value)}`;
    throw new Fault('invalid_request', detail, { field: 'timeout_ms' });
  }
  return value as number;
}

function checkFlag(value: unknown): boolean {
  if (typeof value !== 'boolean')
    throw new Fault('invalid_request', 'stdin is not true or false', { field: 'stdin' });
  return value;
}
