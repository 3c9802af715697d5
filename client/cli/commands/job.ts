import { isUtf8 } from 'node:buffer';
import { type Command, Option } from 'commander';
import type { Job, Jobs, OutputChunk } from '../../index.ts';
import { connect } from '../connection.ts';
import type { Cli } from '../context.ts';
import { EXIT, exitCodeOfResult, NoResultError } from '../exit.ts';
import { examples, variable, wholeNumber } from '../options.ts';
import { isReaderGone, writerTo } from '../output.ts';
import { table } from '../printer.ts';

const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'canceled'];

const EXAMPLES = `
Examples:
  $ mobvibe job run demo -- npm test             queue it, follow its output, exit with its code
  $ id=$(mobvibe job run demo --detach -- node nightly.js)
  $ mobvibe job logs "$id" --follow`;

interface RunOptions {
  id?: string;
  cwd?: string;
  env?: Record<string, string>;
  timeoutMs?: number;
  maxAttempts?: number;
  shell?: boolean;
  detach?: boolean;
}

export function jobCommands(program: Command, cli: Cli): void {
  const { printer } = cli;
  const job = program
    .command('job')
    .description('queue commands and look at them')
    .addHelpText('after', EXAMPLES);

  job
    .command('run <session> <command...>')
    .usage('[options] SESSION -- COMMAND...')
    .description('queue a command; its session is opened when it is not')
    .addHelpText(
      'after',
      examples(
        'mobvibe job run demo -- npm test',
        'mobvibe job run demo --timeout-ms 600000 --env CI=1 -- npm run build',
        'id=$(mobvibe job run demo --detach -- node nightly.js)',
      ),
    )
    .option('--id <id>', 'its id; the same one again finds it (default: a new one)')
    .option('--cwd <path>', 'working directory (default: /workspace)')
    .option('--env <NAME=VALUE>', 'set a variable, as often as needed', variable)
    .option('--timeout-ms <n>', 'deadline of the command, milliseconds', wholeNumber)
    .option('--max-attempts <n>', 'how often it may be tried when it provably did not start', wholeNumber)
    .option('--shell', 'give the words to a shell as one line')
    .option('--detach', 'print the id and do not wait')
    .action(async (session: string, words: string[], options: RunOptions) => {
      const mobvibe = connect(cli.env);
      const { id, cwd, env, timeoutMs, maxAttempts, shell, detach } = options;
      const created = await mobvibe.jobs.create(session, shell ? words.join(' ') : words, {
        ...(id === undefined ? {} : { id }),
        ...(cwd === undefined ? {} : { cwd }),
        ...(env === undefined ? {} : { env }),
        ...(timeoutMs === undefined ? {} : { commandTimeoutMs: timeoutMs }),
        ...(maxAttempts === undefined ? {} : { maxAttempts }),
      });
      if (detach) {
        printer.answer(created, (made) => made.id);
        return;
      }
      const stopListening = onSignal(() => leave(cli, created.id));
      const spinner = printer.spin(`Waiting for job ${created.id}`);
      try {
        const ended = await copyLogs(cli, mobvibe.jobs.logs(created.id, { follow: true }), spinner.stop);
        if (ended === 'reader gone') return;
        if (printer.json) printer.answer(ended, () => '');
        cli.exitCode = exitCodeOfJob(cli, ended);
      } catch (error) {
        throw new NoResultError(error);
      } finally {
        spinner.stop();
        stopListening();
      }
    });

  job
    .command('list')
    .description('list jobs')
    .addHelpText(
      'after',
      examples('mobvibe job list --session demo', 'mobvibe job list --status failed --json'),
    )
    .option('--session <id>', 'only of this session')
    .addOption(new Option('--status <status>', 'only these').choices(STATUSES))
    .option('--limit <n>', 'how many at most', wholeNumber, 50)
    .option('--cursor <cursor>', 'continue after an earlier page (its next_cursor)')
    .action(async ({ session, status, limit, cursor }) => {
      const page = await connect(cli.env).jobs.list({ sessionId: session, status, limit, cursor });
      printer.answer({ items: page.items, next_cursor: page.nextCursor }, ({ items, next_cursor }) =>
        [
          table(
            ['ID', 'SESSION', 'STATUS', 'RESULT', 'CREATED', 'COMMAND'],
            items.map((row) => [
              row.id,
              row.session_id,
              row.status,
              resultText(row),
              row.created_at,
              commandText(row),
            ]),
          ),
          ...(next_cursor === null ? [] : [`more: --cursor ${next_cursor}`]),
        ].join('\n'),
      );
    });

  job
    .command('show <job>')
    .description('show one job')
    .addHelpText('after', examples('mobvibe job show 0mww41r21fywbb2dalgd'))
    .action(async (id: string) => {
      printer.answer(await connect(cli.env).jobs.get(id), details);
    });

  job
    .command('logs <job>')
    .description('print the output of a job')
    .addHelpText('after', examples('mobvibe job logs 0mww41r21fywbb2dalgd --follow'))
    .option('-f, --follow', 'until it ends')
    .action(async (id: string, { follow = false }) => {
      const ended = await copyLogs(cli, connect(cli.env).jobs.logs(id, { follow }));
      if (ended !== 'reader gone' && printer.json) printer.answer(ended, () => '');
    });

  job
    .command('cancel <job>')
    .description('cancel a job; a running one is interrupted')
    .addHelpText('after', examples('mobvibe job cancel 0mww41r21fywbb2dalgd'))
    .action(async (id: string) => {
      const canceled = await connect(cli.env).jobs.cancel(id);
      printer.answer(
        canceled,
        ({ status, cancel_requested }) =>
          `${id} is ${status}${status === 'running' && cancel_requested ? ', to be interrupted' : ''}`,
      );
    });
}

/** With `--json` every piece of output is a line of its own. */
async function copyLogs(
  cli: Cli,
  log: ReturnType<Jobs['logs']>,
  beforeOutput = () => {},
): Promise<Job | 'reader gone'> {
  const writers = { stdout: writerTo(cli.stdout), stderr: writerTo(cli.stderr) };
  try {
    while (true) {
      const step = await log.next();
      if (step.done) return step.value;
      beforeOutput();
      const chunk = step.value;
      if ('lostTo' in chunk)
        cli.printer.note(`${chunk.lostTo - chunk.offset} bytes of ${chunk.stream} were not kept`);
      else if (cli.printer.json) await writers.stdout(Buffer.from(`${JSON.stringify(asJson(chunk))}\n`));
      else await writers[chunk.stream](chunk.data);
    }
  } catch (error) {
    if (!isReaderGone(error)) throw error;
    cli.exitCode = EXIT.readerGone;
    return 'reader gone';
  }
}

/** As the API gives it: text where it is text. */
function asJson({ stream, offset, data }: Extract<OutputChunk, { data: Buffer }>) {
  return isUtf8(data)
    ? { stream, offset, data: data.toString() }
    : { stream, offset, data: data.toString('base64'), encoding: 'base64' };
}

/** A job is the queue's, not the terminal's: it goes on. */
function leave({ printer }: Cli, id: string): never {
  printer.error({
    code: 'aborted',
    detail: `Left; job ${id} goes on`,
    hint: `"mobvibe job logs ${id} --follow" follows it again, "mobvibe job cancel ${id}" ends it.`,
  });
  process.exit(EXIT.noResult);
}

function onSignal(listener: () => void): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, listener);
  return () => {
    for (const signal of signals) process.off(signal, listener);
  };
}

function exitCodeOfJob({ printer }: Cli, job: Job): number {
  if (job.result === null) {
    printer.error({ code: 'unknown', detail: `Job ${job.id} is ${job.status} and has no result` });
    return EXIT.noResult;
  }
  const { result } = job.result;
  if (result.kind === 'machine_lost' || result.kind === 'unknown') {
    printer.error({ code: result.kind, detail: result.reason });
  }
  return exitCodeOfResult(result);
}

const commandText = ({ command }: Job) =>
  (typeof command === 'string' ? command : command.join(' ')).slice(0, 60);

function resultText({ result }: Job): string | null {
  if (result === null) return null;
  const { result: end } = result;
  if (end.kind === 'exited') return `exited ${end.code}`;
  return end.kind === 'signaled' ? end.signal : end.kind;
}

function details(job: Job): string {
  return table(
    ['JOB', job.id],
    [
      ['session', job.session_id],
      ['command', commandText(job)],
      ['status', job.status],
      ['result', resultText(job)],
      ['attempts', `${job.attempts} of ${job.max_attempts}`],
      ['created', job.created_at],
      ['ended', job.ended_at],
    ],
  );
}
