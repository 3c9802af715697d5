import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { examples } from '../options.ts';

/** `mobvibe doctor`: a program of its own, as it needs what only a deploy needs; this runs it in its place. */
export function doctorCommand(program: Command, cli: Cli): void {
  program
    .command('doctor')
    .description('look at all that "pulumi up" needs, and say how to mend what is wrong')
    .option('--stack <name>', 'the stack whose settings are looked at (default: the selected one)')
    .addHelpText('after', examples('mobvibe doctor', 'mobvibe doctor --stack prod --json'))
    .action(async ({ stack }) => {
      const doctor = fileURLToPath(new URL('../../../infra/doctor/main.ts', import.meta.url));
      const args = [
        ...(stack === undefined ? [] : ['--stack', stack]),
        ...(cli.printer.json ? ['--json'] : []),
      ];
      const child = spawn(process.execPath, [doctor, ...args], { stdio: 'inherit', env: cli.env });
      const forward = (signal: NodeJS.Signals) => void child.kill(signal);
      process.on('SIGINT', forward).on('SIGTERM', forward).on('SIGHUP', forward);
      const [code] = await once(child, 'exit');
      cli.exitCode = code ?? 1;
    });
}
