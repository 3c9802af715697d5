import { Command, CommanderError } from 'commander';
import { execCommand } from './commands/exec.ts';
import { fileCommands } from './commands/files.ts';
import { jobCommands } from './commands/job.ts';
import { sessionCommands } from './commands/session.ts';
import { upCommand } from './commands/up.ts';
import type { Cli, Streams } from './context.ts';
import { EXIT, exitCodeOfError } from './exit.ts';
import { describeError, Printer } from './printer.ts';

const EXAMPLES = `
Examples:
  $ mobvibe up                                     start everything on this computer
  $ mobvibe session create --id demo               get a sandbox
  $ mobvibe files put ./my-app demo:               copy a folder into its /workspace
  $ mobvibe exec demo -- npm test                  run a command there, as if it ran here
  $ mobvibe job run demo -- node build.js          queue a command and follow it
  $ mobvibe session stop demo                      save the files and give the sandbox back

Connection: MOBVIBE_URL and MOBVIBE_API_KEY, or what "mobvibe up" wrote to ~/.mobvibe/local.json
(another file: MOBVIBE_CONFIG_FILE).

Exit codes: 0 done, 1 the request failed, 2 a mistake in the command or no connection.
exec and job run: the command's own; 128+n killed by signal n, 124 past its deadline, 125 no result.`;

/** Runs one command line and says with which code to exit. */
export async function runCli(args: string[], { stdin, stdout, stderr, env }: Streams): Promise<number> {
  const json = asksForJson(args);
  const cli: Cli = { stdin, stdout, stderr, env, printer: new Printer(stdout, stderr, json), exitCode: 0 };
  try {
    await buildProgram(cli).parseAsync(args, { from: 'user' });
    return cli.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return afterCommander(error, cli);
    cli.printer.error(describeError(error));
    return exitCodeOfError(error);
  }
}

function buildProgram(cli: Cli): Command {
  const program = new Command('mobvibe')
    .description('Isolated computers for coding sessions')
    .addHelpText('after', EXAMPLES)
    .helpCommand('help [command]', 'help for a command')
    .showSuggestionAfterError()
    .exitOverride()
    // Mistakes are said once, by afterCommander.
    .configureOutput({
      writeOut: (text) => void cli.stdout.write(text),
      writeErr: () => {},
    });
  for (const add of [upCommand, sessionCommands, execCommand, fileCommands, jobCommands]) add(program, cli);
  const withJson = (command: Command) => command.option('--json', 'answer, or error, as one JSON value');
  withJson(program);
  everyCommand(program, (command) => withJson(command.copyInheritedSettings(program)));
  return program;
}

function everyCommand(command: Command, change: (command: Command) => void): void {
  for (const child of command.commands) {
    change(child);
    everyCommand(child, change);
  }
}

/** Decided before the arguments are understood, so that a mistake in them is told as JSON, too. */
function asksForJson(args: string[]): boolean {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).includes('--json');
}

function afterCommander(error: CommanderError, { printer }: Cli): number {
  if (error.exitCode === 0) return 0;
  if (error.code === 'commander.help') {
    printer.error({ code: 'invalid_option', detail: 'A command is missing', hint: 'See "mobvibe --help".' });
    return EXIT.usage;
  }
  const detail = error.message
    .replace(/^error: /, '')
    .replace(/\n\(?/g, ' (')
    .trim();
  const hint =
    error.code === 'commander.unknownOption'
      ? 'Put "--" before the words of a command to run; see "mobvibe --help" for the options.'
      : 'See "mobvibe --help".';
  printer.error({ code: 'invalid_option', detail, hint });
  return EXIT.usage;
}
