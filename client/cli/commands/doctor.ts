import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { examples } from '../options.ts';
import { runProgram } from '../run-program.ts';

/** `mobvibe doctor`: a program of its own, as it needs what only a deploy needs; this runs it in its place. */
export function doctorCommand(program: Command, cli: Cli): void {
  program
    .command('doctor')
    .description('look at all that "pulumi up" needs, and say how to mend what is wrong')
    .option('--stack <name>', 'the stack whose settings are looked at (default: the selected one)')
    .addHelpText('after', examples('mobvibe doctor', 'mobvibe doctor --stack prod --json'))
    .action(async ({ stack }) => {
      await runProgram(cli, 'infra/doctor/main.ts', stack === undefined ? [] : ['--stack', stack]);
    });
}
