import { type Command, Option } from 'commander';
import type { SessionInfo } from '../../index.ts';
import { connect } from '../connection.ts';
import type { Cli } from '../context.ts';
import { examples, wholeNumber } from '../options.ts';
import { table } from '../printer.ts';

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
      const { info } = await connect(cli.env).sessions.get(id);
      printer.answer(info, details);
    });

  session
    .command('open <session>')
    .description('start a sandbox for a stopped session, with its saved files')
    .addHelpText('after', examples('mobvibe session open demo'))
    .action(async (id) => {
      const found = await connect(cli.env).sessions.get(id);
      const info = await printer.progress(`Opening ${id}`, () => found.open());
      printer.answer(info, line);
    });

  session
    .command('stop <session>')
    .description('save the files and destroy the sandbox')
    .addHelpText('after', examples('mobvibe session stop demo'))
    .action(async (id) => {
      const found = await connect(cli.env).sessions.get(id);
      const info = await printer.progress(`Saving and stopping ${id}`, () => found.stop());
      printer.answer(info, line);
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
            items.map((row) => [row.at, row.kind, row.sandbox, row.actor, row.reason]),
          ),
          ...(next_cursor === null ? [] : [`more: --cursor ${next_cursor}`]),
        ].join('\n'),
      );
    });
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

function details(info: SessionInfo): string {
  const { region, cpu_kind, cpus, memory_mb } = info.settings;
  return table(
    ['SESSION', info.id],
    [
      ['status', info.status],
      ['settings', `${region}, ${cpus} ${cpu_kind} CPU, ${memory_mb} MiB`],
      ['machine', info.sandbox_id],
      ['sandboxes so far', info.incarnation],
      ['saved version', info.head === 0 ? null : info.head],
      ['error', info.error && `${info.error.code}: ${info.error.detail}`],
      ['created', info.created_at],
      ['last active', info.last_active_at],
    ],
  );
}
