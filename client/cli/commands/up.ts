import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { examples } from '../options.ts';

/** `mobvibe up`: the local stack is a program of its own; this runs it in its place. */
export function upCommand(program: Command, cli: Cli): void {
  program
    .command('up')
    .description('start Supabase, Fly and the controller on this computer, until Ctrl-C')
    .option('--port <n>', 'port of the API on 127.0.0.1 (default: 8080; 0 takes a free one)')
    .option('--state-dir <path>', 'where everything is kept between starts')
    .option('--verbose', "print every part's log, on stderr")
    .addHelpText(
      'after',
      examples('mobvibe up', 'mobvibe up --port 0 --state-dir ./scratch', 'mobvibe up --json | jq -r .url'),
    )
    .action(async ({ port, stateDir, verbose }) => {
      const stack = fileURLToPath(new URL('../../../local/stack/main.ts', import.meta.url));
      const args = [
        ...(port === undefined ? [] : ['--port', port]),
        ...(stateDir === undefined ? [] : ['--state-dir', stateDir]),
        ...(verbose ? ['--verbose'] : []),
        ...(cli.printer.json ? ['--json'] : []),
      ];
      const child = spawn(process.execPath, [stack, ...args], { stdio: 'inherit', env: cli.env });
      const forward = (signal: NodeJS.Signals) => void child.kill(signal);
      // Ctrl-C at a terminal reaches the stack by itself; it must only not end this process before it.
      const onInterrupt = (signal: NodeJS.Signals) => hasTerminal() || forward(signal);
      process.on('SIGINT', onInterrupt).on('SIGTERM', forward).on('SIGHUP', forward);
      const [code] = await once(child, 'exit');
      cli.exitCode = code ?? 1;
    });
}

/** Any of the three may lead elsewhere while the others are the terminal's. */
const hasTerminal = () => [0, 1, 2].some((fd) => isatty(fd));
