import { pipeline } from 'node:stream/promises';
import { type Command, Option } from 'commander';
import {
  MobVibeError,
  type Session,
  type SessionEvent,
  type SessionInfo,
  type Unsaved,
} from '../../index.ts';
import { connect } from '../connection.ts';
import type { Cli } from '../context.ts';
import { examples, wholeNumber, wholeNumberOr0 } from '../options.ts';
import { counted, table } from '../printer.ts';

export function sessionCommands(program: Command, cli: Cli): void {
  const { printer } = cli;
  const session = program
    .command('session')
    .description('create, look at, open and stop sessions')
    .addHelpText(
      'after',
      examples(
        'mobvibe session create --id demo',
        'mobvibe session list --status ready',
        'mobvibe session stop demo',
        'mobvibe session open demo',
        'mobvibe session rescue demo > work.tar',
      ),
    );

  session
    .command('create')
    .description('create a session, or open the one that has this id, and wait until it is ready')
    .option('--id <id>', 'its id; the same one again finds it (default: a new one)')
    .option('--region <code>', 'Fly region, e.g. sjc')
    .addOption(new Option('--cpu-kind <kind>', 'kind of CPU').choices(['shared', 'performance']))
    .option('--cpus <n>', 'number of CPUs', wholeNumber)
    .option('--memory-mb <n>', 'memory in MiB', wholeNumber)
    .addHelpText(
      'after',
      examples(
        'mobvibe session create --id demo',
        'mobvibe session create --id big --cpu-kind performance --cpus 2 --memory-mb 4096 --region lax',
        'id=$(mobvibe session create --json | jq -r .id)',
      ),
    )
    .action(async (options) => {
      const mobvibe = connect(cli.env);
      const created = await printer.progress('Starting a sandbox', () =>
        mobvibe.sessions.create(pick(options)),
      );
      printer.answer(created.info, line);
    });

  session
    .command('list')
    .description('list sessions')
    .addHelpText('after', examples('mobvibe session list', 'mobvibe session list --status ready --json'))
    .addOption(
      new Option('--status <status>', 'only these').choices([
        'stopped',
        'starting',
        'ready',
        'unresponsive',
        'stopping',
        'failed',
      ]),
    )
    .option('--limit <n>', 'how many at most', wholeNumber, 50)
    .option('--cursor <cursor>', 'continue after an earlier page (its next_cursor)')
    .action(async ({ status, limit, cursor }) => {
      const page = await connect(cli.env).sessions.list({ status, limit, cursor });
      printer.answer({ items: page.items, next_cursor: page.nextCursor }, ({ items, next_cursor }) =>
        [
          table(
            ['ID', 'STATUS', 'REGION', 'MACHINE', 'SAVED', 'ACTIVE'],
            items.map((row) => [
              row.id,
              row.status,
              row.sandbox_region ?? row.settings.region,
              row.sandbox_id,
              row.head === 0 ? null : `v${row.head}`,
              row.last_active_at,
            ]),
          ),
          ...(next_cursor === null ? [] : [`more: --cursor ${next_cursor}`]),
        ].join('\n'),
      );
    });

  session
    .command('show <session>')
    .description('show one session')
    .addHelpText(
      'after',
      examples('mobvibe session show demo', 'mobvibe session show demo --json | jq -r .status'),
    )
    .action(async (id) => {
      const found = await connect(cli.env).sessions.get(id);
      const unsaved = savesAreFailing(found.info) ? await unsavedOf(found) : undefined;
      printer.answer({ ...found.info, ...(unsaved && { unsaved }) }, details);
    });

  session
    .command('open <session>')
    .description('start a sandbox for a stopped session, with its saved files')
    .option(
      '--version <n>',
      'saved version of the files to begin with, unless it is open (default: the newest)',
      wholeNumber,
    )
    .addHelpText('after', examples('mobvibe session open demo', 'mobvibe session open demo --version 7'))
    .action(async (id, { version }) => {
      const found = await connect(cli.env).sessions.get(id);
      const info = await printer.progress(`Opening ${id}`, () => found.open({ version }));
      printer.answer(info, line);
    });

  session
    .command('stop <session>')
    .description('end what runs, save the files and destroy the sandbox')
    .option('--grace-ms <n>', 'between SIGTERM and SIGKILL to what still runs', wholeNumberOr0)
    .option('--discard-unsaved', 'give up what can not be saved, after saying what that is')
    .addHelpText(
      'after',
      examples(
        'mobvibe session stop demo',
        'mobvibe session stop demo --grace-ms 60000',
        'mobvibe session stop demo --discard-unsaved',
      ),
    )
    .action(async (id, { graceMs, discardUnsaved }) => {
      const found = await connect(cli.env).sessions.get(id);
      if (discardUnsaved) await tellUnsaved(cli, found);
      const info = await printer.progress(`Saving and stopping ${id}`, () =>
        found.stop({ graceMs, discardUnsaved }),
      );
      printer.answer(info, line);
    });

  session
    .command('rescue <session>')
    .description('write all of the workspace to standard output as a tar, also while it can not be saved')
    .addHelpText('after', examples('mobvibe session rescue demo > work.tar'))
    .action(async (id) => {
      if (cli.stdout.isTTY) {
        const detail = `The tar would go to your terminal; write it to a file: mobvibe session rescue ${id} > work.tar`;
        throw new MobVibeError('invalid_option', 'mistake', detail);
      }
      const found = await connect(cli.env).sessions.get(id);
      await pipeline(await found.rescue(), cli.stdout, { end: false });
    });

  session
    .command('events <session>')
    .description('show what happened to a session, oldest first')
    .addHelpText('after', examples('mobvibe session events demo --limit 10'))
    .option('--limit <n>', 'how many at most', wholeNumber, 50)
    .option('--cursor <cursor>', 'continue after an earlier page (its next_cursor)')
    .action(async (id, { limit, cursor }) => {
      const found = await connect(cli.env).sessions.get(id);
      const page = await found.events({ limit, cursor });
      printer.answer({ items: page.items, next_cursor: page.nextCursor }, ({ items, next_cursor }) =>
        [
          table(
            ['AT', 'WHAT', 'SANDBOX', 'WHO', 'WHY'],
            items.map((row) => [row.at, row.kind, row.sandbox, row.actor, row.reason ?? savedVersion(row)]),
          ),
          ...(next_cursor === null ? [] : [`more: --cursor ${next_cursor}`]),
        ].join('\n'),
      );
    });
}

/** The row of a save gives no reason, but its version is what one opens. */
function savedVersion({ data }: SessionEvent): string | null {
  const { manifest } = data as { manifest?: { version?: number } };
  return manifest?.version === undefined ? null : `version ${manifest.version}`;
}

/** What would be lost, or why that can't be told. */
async function unsavedOf(session: Session): Promise<Unsaved | { error: string }> {
  try {
    return await session.unsaved({ timeoutMs: UNSAVED_TIMEOUT_MS });
  } catch (error) {
    return { error: (error as MobVibeError).detail };
  }
}

/** An agent that hangs must not keep anyone from looking at the session, or from giving it up. */
const UNSAVED_TIMEOUT_MS = 15_000;

async function tellUnsaved({ printer }: Cli, session: Session): Promise<void> {
  if (session.info.status === 'stopped') return;
  const unsaved = await unsavedOf(session);
  printer.warn({ unsaved }, `not saved: ${saysUnsaved(unsaved)}`);
}

function saysUnsaved(unsaved: Unsaved | { error: string }): string {
  if ('error' in unsaved) return `can't be told (${unsaved.error})`;
  const { files, bytes, base, known, paths } = unsaved;
  const since = base === 0 ? 'nothing was ever saved' : `since version ${base}${known ? '' : ' at most'}`;
  const more = files > paths.length ? ', …' : '';
  return files === 0
    ? 'nothing'
    : `${counted(files, 'file')}, ${counted(bytes, 'byte')} (${since}): ${paths.join(', ')}${more}`;
}

/** Commander leaves options that were not given undefined; `--json` is not for the SDK. */
function pick({ id, region, cpuKind, cpus, memoryMb }: Record<string, never>) {
  return { id, region, cpuKind, cpus, memoryMb };
}

const line = ({ id, status, sandbox_id, error }: SessionInfo) =>
  [
    `${id} is ${status}`,
    sandbox_id && `on machine ${sandbox_id}`,
    error && `(${error.code}: ${error.detail})`,
  ]
    .filter(Boolean)
    .join(' ');

/** A sandbox that is gone saves nothing any more: then `error` says what was lost. */
const savesAreFailing = ({ status, save }: SessionInfo) => save?.state === 'failing' && status !== 'failed';

const savesFail = ({ since, attempts, code, detail }: SessionInfo['save']) => [
  ['saves fail', `since ${since}, ${counted(attempts, 'try', 'tries')}`],
  ['because', `${code}: ${detail}`],
];

function details({ unsaved, ...info }: SessionInfo & { unsaved?: Unsaved | { error: string } }): string {
  const { region, cpu_kind, cpus, memory_mb } = info.settings;
  return table(
    ['SESSION', info.id],
    [
      ['status', info.status],
      ['settings', `${region}, ${cpus} ${cpu_kind} CPU, ${memory_mb} MiB`],
      ['machine', info.sandbox_id],
      ['sandboxes so far', info.incarnation],
      ['saved version', info.head === 0 ? null : info.head],
      ...(savesAreFailing(info) ? savesFail(info.save) : []),
      ...(unsaved === undefined ? [] : [['not saved', saysUnsaved(unsaved)]]),
      ['error', info.error && `${info.error.code}: ${info.error.detail}`],
      ['created', info.created_at],
      ['last active', info.last_active_at],
    ],
  );
}
