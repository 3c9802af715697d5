import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** Long enough for a first initdb on a slow, busy machine. */
const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;
const LINES_KEPT = 40;
const TETHER = new URL('./tether.ts', import.meta.url).href;

export interface ChildOptions {
  /** For messages, e.g. `local Fly`. */
  name: string;
  /** The TypeScript file, run by the Node that runs us. */
  script: string;
  args: string[];
  /** The script knows `--tethered`; one that doesn't gets `tether.ts` preloaded. Default true. */
  knowsTether?: boolean;
  env?: Record<string, string>;
  /** Every line of the child's stderr. */
  onLog?: (line: string) => void;
}

/** A part of the stack: a process that says `{"ready":true,…}` in one line on stdout, logs on stderr and stops at SIGTERM. */
export interface Child<Ready> {
  readonly name: string;
  readonly pid: number;
  readonly ready: Ready;
  /** Settles when the process has ended, wanted or not. */
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  /** The last lines of its log. */
  lastLog(): string[];
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL when it has not ended 20 s later. */
  stop(): Promise<void>;
}

/**
 * Starts a part and waits for its ready line. The child's stdin is a pipe of ours: it closes when we die, however we die, and
 * a part started with `--tethered` ends then.
 */
export async function startChild<Ready extends { ready: true }>(
  options: ChildOptions,
): Promise<Child<Ready>> {
  const tether = options.knowsTether === false ? ['--import', TETHER] : [];
  const end = options.knowsTether === false ? [] : ['--tethered'];
  const child = spawn(process.execPath, [...tether, options.script, ...options.args, ...end], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...inheritedEnv(), ...options.env },
    // A Ctrl-C in the terminal is for us: we stop the parts in their order.
    detached: true,
  });
  child.stdin.on('error', () => {});
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: 127, signal: null }));
  });
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (lines.push(line) > LINES_KEPT) lines.shift();
    options.onLog?.(line);
  });
  const ready = await readyLine<Ready>(child, options.name, exited, lines);
  return {
    name: options.name,
    pid: child.pid!,
    ready,
    exited,
    lastLog: () => [...lines],
    kill: (signal) => void child.kill(signal),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(timer);
    },
  };
}

async function readyLine<Ready extends { ready: true }>(
  child: ChildProcess,
  name: string,
  exited: Promise<{ code: number | null; signal: string | null }>,
  lines: string[],
): Promise<Ready> {
  const failed = (what: string) => new Error([`${name} ${what}`, ...lines.slice(-12)].join('\n  '));
  const output = createInterface({ input: child.stdout! });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      new Promise<Ready>((resolve) => {
        output.on('line', (line) => {
          const said = parseReady<Ready>(line);
          if (said) resolve(said);
        });
      }),
      exited.then(({ code, signal }) => {
        throw failed(`ended before it was ready (${signal ?? `exit code ${code}`})`);
      }),
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          child.kill('SIGKILL');
          reject(failed(`was not ready after ${READY_TIMEOUT_MS} ms`));
        }, READY_TIMEOUT_MS);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

function parseReady<Ready extends { ready: true }>(line: string): Ready | undefined {
  try {
    const value = JSON.parse(line) as unknown;
    if (typeof value === 'object' && value !== null && (value as { ready?: unknown }).ready === true) {
      return value as Ready;
    }
  } catch {
    // Not a ready line: a part may print other things.
  }
  return undefined;
}

/** What a part needs of our environment; settings of the user's own shell (`FLY_*`, `SUPABASE_*`) must not leak into the local stack. */
function inheritedEnv(): Record<string, string> {
  const kept = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'XDG_STATE_HOME', 'USER', 'LOGNAME', 'CI'];
  return Object.fromEntries(
    kept.flatMap((key) => (process.env[key] === undefined ? [] : [[key, process.env[key]!]])),
  );
}
