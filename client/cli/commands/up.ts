import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { examples } from '../options.ts';
import { runProgram } from '../run-program.ts';

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
      await runProgram(cli, 'local/stack/main.ts', [
        ...(port === undefined ? [] : ['--port', port]),
        ...(stateDir === undefined ? [] : ['--state-dir', stateDir]),
        ...(verbose ? ['--verbose'] : []),
      ]);
    });
}
