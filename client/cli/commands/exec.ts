import type { Command } from 'commander';
import { Kept } from '../../exec-outcome.ts';
import type { ExecEnd, ExecHandle } from '../../index.ts';
import { feed } from '../../stdin.ts';
import { connect } from '../connection.ts';
import type { Cli } from '../context.ts';
import { EXIT, exitCodeOfResult, NoResultError } from '../exit.ts';
import { variable, wholeNumber } from '../options.ts';
import { isReaderGone, writerTo } from '../output.ts';

const EXAMPLES = `
Examples:
  $ mobvibe exec demo -- ls -la
  $ mobvibe exec demo --cwd app --env NODE_ENV=test -- npm test
  $ mobvibe exec demo --shell -- 'grep -r useState src | wc -l'
  $ tar c src | mobvibe exec demo -- tar x

Exits with the command's own code; 128+n when signal n killed it, 124 when its deadline passed, 125 when it has no
result (then a line that begins with "mobvibe:" says why). With --json the first 10 MiB of each stream are kept.`;

interface Options {
  cwd?: string;
  env?: Record<string, string>;
  timeoutMs?: number;
  shell?: boolean;
  stdin: boolean;
}

export function execCommand(program: Command, cli: Cli): void {
  program
    .command('exec <session> <command...>')
    .usage('[options] SESSION -- COMMAND...')
    .description('run a command in the sandbox of a session')
    .option('--cwd <path>', 'working directory (default: /workspace)')
    .option('--env <NAME=VALUE>', 'set a variable, as often as needed', variable)
    .option('--timeout-ms <n>', 'deadline of the command, milliseconds', wholeNumber)
    .option('--shell', 'give the words to a shell as one line')
    .option('--no-stdin', 'do not read standard input')
    .addHelpText('after', EXAMPLES)
    .action(async (session: string, words: string[], options: Options) => {
      try {
        await run(cli, session, words, options);
      } catch (error) {
        throw new NoResultError(error);
      }
    });
}

async function run(cli: Cli, sessionId: string, words: string[], options: Options): Promise<void> {
  const session = await connect(cli.env).sessions.get(sessionId);
  const { cwd, env, timeoutMs, stdin } = options;
  const handle = await session.execs.start(options.shell ? words.join(' ') : words, {
    stdin,
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
  const stopForwarding = forwardSignals(cli, handle);
  const input = new AbortController();
  const feeding = stdin ? feed(handle.stdin, cli.stdin, input.signal) : Promise.resolve();
  // Half of its input must not look like all of it, and without an end the command would wait for more.
  feeding.catch((error) => {
    cli.printer.note(
      `the command was killed: its standard input could not be read to the end (${error.message})`,
    );
    handle.signal('SIGKILL').catch(() => {});
  });
  try {
    await follow(cli, handle);
  } catch (error) {
    if (!isReaderGone(error)) throw error;
    // Whoever read the output has gone; the command learns it as it would here.
    await handle.signal('SIGPIPE').catch(() => {});
    cli.exitCode = EXIT.readerGone;
  } finally {
    input.abort();
    stopForwarding();
  }
}

async function follow(cli: Cli, handle: ExecHandle): Promise<void> {
  const { printer } = cli;
  const kept = { stdout: new Kept(), stderr: new Kept() };
  const writers = { stdout: writerTo(cli.stdout), stderr: writerTo(cli.stderr) };
  const output = handle.output();
  let step = await output.next();
  for (; !step.done; step = await output.next()) {
    const chunk = step.value;
    if (printer.json) kept[chunk.stream].add(chunk);
    else if ('lostTo' in chunk)
      printer.note(
        `${chunk.lostTo - chunk.offset} bytes of ${chunk.stream} were written faster than they were read`,
      );
    else await writers[chunk.stream](chunk.data);
  }
  const end = step.value;
  cli.exitCode = exitCodeOfResult(end.result);
  if (printer.json) printer.answer(summary(handle, end, kept), () => '');
  else explain(cli, end);
}

function explain({ printer }: Cli, { result, oomKilled }: ExecEnd): void {
  if (result.kind === 'timed_out')
    printer.note(`the command was ended at its deadline of ${result.timeout_ms} ms`);
  if (oomKilled) printer.note('a process of the command was killed because the sandbox had no memory left');
  if (result.kind === 'machine_lost' || result.kind === 'unknown') {
    printer.error({ code: result.kind, detail: result.reason });
  }
}

function summary(handle: ExecHandle, end: ExecEnd, { stdout, stderr }: Record<'stdout' | 'stderr', Kept>) {
  return {
    id: handle.id,
    stdout: String(stdout),
    stderr: String(stderr),
    exit_code: end.result.kind === 'exited' ? end.result.code : null,
    result: end.result,
    truncated: stdout.truncated || stderr.truncated,
    duration_ms: end.durationMs,
    oom_killed: end.oomKilled,
  };
}

/** The command gets the signals in place of this process. Whoever insists on Ctrl-C gets away, and the command goes on. */
function forwardSignals(cli: Cli, handle: ExecHandle): () => void {
  let interrupts = 0;
  const forward = (signal: NodeJS.Signals) => {
    if (signal === 'SIGINT' && ++interrupts > 2) {
      cli.printer.error({ code: 'aborted', detail: `Left; the command ${handle.id} goes on in the sandbox` });
      process.exit(EXIT.noResult);
    }
    // It may have ended in this moment.
    handle.signal(signal).catch(() => {});
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, forward);
  return () => {
    for (const signal of signals) process.off(signal, forward);
  };
}
