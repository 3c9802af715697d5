import { readFileSync } from 'node:fs';
import { Command, type CommanderError } from 'commander';
import { doctorCommand } from './commands/doctor.ts';
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
  $ mobvibe doctor                                 what is missing for a stack on Fly.io and Supabase

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
    if (error instanceof Mistake) return afterMistake(error, cli);
    cli.printer.error(describeError(error));
    return exitCodeOfError(error);
  }
}

function buildProgram(cli: Cli): Command {
  const program = new Command('mobvibe')
    .description('Isolated computers for coding sessions')
    .version(version(), '--version', 'print the version')
    .addHelpText('after', EXAMPLES)
    .helpCommand('help [command]', 'help for a command')
    .showSuggestionAfterError()
    // `session open --version 3` is that command's own, not the program's.
    .enablePositionalOptions()
    // Mistakes are said once, by afterMistake.
    .configureOutput({
      writeOut: (text) => void cli.stdout.write(text),
      writeErr: () => {},
    });
  for (const add of [upCommand, sessionCommands, execCommand, fileCommands, jobCommands, doctorCommand])
    add(program, cli);
  const withJson = (command: Command) => command.option('--json', 'answer, or error, as one JSON value');
  withJson(program);
  for (const command of below(program)) withJson(command.copyInheritedSettings(program));
  for (const command of [program, ...below(program)]) {
    command.exitOverride((error) => {
      throw new Mistake(error, command);
    });
  }
  return program;
}

function below(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...below(child)]);
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
}

/** Decided before the arguments are understood, so that a mistake in them is told as JSON, too. */
function asksForJson(args: string[]): boolean {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).includes('--json');
}

/** What commander did not understand, and where. Help and version are told in this way, too. */
class Mistake extends Error {
  override readonly cause: CommanderError;
  readonly command: Command;
  constructor(cause: CommanderError, command: Command) {
    super(cause.message);
    this.cause = cause;
    this.command = command;
  }
}

function afterMistake({ cause, command }: Mistake, { printer }: Cli): number {
  if (cause.exitCode === 0) return 0;
  const see = `See "${pathOf(command)} --help".`;
  if (cause.code === 'commander.help') {
    printer.error({ code: 'invalid_option', detail: 'A command is missing', hint: see });
    return EXIT.usage;
  }
  const detail = cause.message
    .replace(/^error: /, '')
    .replace(/\n\(?/g, ' (')
    .trim();
  const takesWords = command.registeredArguments.some(({ variadic }) => variadic);
  const hint =
    cause.code === 'commander.unknownOption' && takesWords
      ? `Put "--" before the words of the command to run. ${see}`
      : see;
  printer.error({ code: 'invalid_option', detail, hint });
  return EXIT.usage;
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}
