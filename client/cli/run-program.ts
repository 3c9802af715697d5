import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import type { Cli } from './context.ts';

/** Runs a program of this repository in the place of the command, with its signals and its exit code. `script`: from the project's folder. */
export async function runProgram(cli: Cli, script: string, args: string[]): Promise<void> {
  const path = fileURLToPath(new URL(`../../${script}`, import.meta.url));
  const json = cli.printer.json ? ['--json'] : [];
  const child = spawn(process.execPath, [path, ...args, ...json], { stdio: 'inherit', env: cli.env });
  const forward = (signal: NodeJS.Signals) => void child.kill(signal);
  // Ctrl-C at a terminal reaches the program by itself; it must only not end this process before it.
  const onInterrupt = (signal: NodeJS.Signals) => hasTerminal() || forward(signal);
  process.on('SIGINT', onInterrupt).on('SIGTERM', forward).on('SIGHUP', forward);
  const [code] = await once(child, 'exit');
  cli.exitCode = code ?? 1;
}

/** Any of the three may lead elsewhere while the others are the terminal's. */
const hasTerminal = () => [0, 1, 2].some((fd) => isatty(fd));
