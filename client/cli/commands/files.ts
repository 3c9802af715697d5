import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, mkdir, stat } from 'node:fs/promises';
import { basename, dirname, posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Command, InvalidArgumentError } from 'commander';
import type { FileStat, Files, TreeSummary } from '../../index.ts';
import { connect } from '../connection.ts';
import type { Cli } from '../context.ts';
import { examples } from '../options.ts';
import { counted, table } from '../printer.ts';

const EXAMPLES = `
A place in a sandbox is SESSION:PATH, with PATH below /workspace; SESSION: is /workspace itself.

Examples:
  $ mobvibe files put ./my-app demo:                 the folder's content into /workspace
  $ mobvibe files put notes.txt demo:docs/           a file into a folder
  $ echo hello | mobvibe files put - demo:hi.txt     standard input into a file
  $ mobvibe files get demo:dist ./dist               a folder, with modes and links
  $ mobvibe files get demo:package.json -            a file to standard output`;

export function fileCommands(program: Command, cli: Cli): void {
  const { printer } = cli;
  const files = program
    .command('files')
    .description("copy, list and remove a session's files")
    .addHelpText('after', EXAMPLES);
  const of = async ({ session }: Place) => (await connect(cli.env).sessions.get(session)).files;

  files
    .command('put')
    .argument('<local>', 'file or folder of this computer, or "-" for standard input')
    .argument('<place>', 'SESSION:PATH', place)
    .description('copy into the sandbox')
    .addHelpText(
      'after',
      examples(
        'mobvibe files put ./my-app demo:',
        'mobvibe files put notes.txt demo:docs/',
        'echo hello | mobvibe files put - demo:hi.txt',
      ),
    )
    .action(async (local: string, to: Place) => {
      printer.answer(await put(cli, await of(to), local, to.path), says('copied in'));
    });

  files
    .command('get')
    .argument('<place>', 'SESSION:PATH', place)
    .argument('[local]', 'where to, or "-" for standard output (default: the same name, here)')
    .description('copy out of the sandbox')
    .addHelpText(
      'after',
      examples('mobvibe files get demo:dist ./dist', 'mobvibe files get demo:package.json -'),
    )
    .action(async (from: Place, local?: string) => {
      const copied = await get(cli, await of(from), from.path, local ?? (posix.basename(from.path) || '.'));
      if (local !== '-') printer.answer(copied, says('copied out'));
    });

  files
    .command('ls')
    .argument('<place>', 'SESSION or SESSION:PATH', place)
    .description('list a folder')
    .addHelpText('after', examples('mobvibe files ls demo', 'mobvibe files ls demo:app --recursive'))
    .option('-r, --recursive', 'with all that is below it')
    .action(async (at: Place, { recursive = false }) => {
      const stats = await (await of(at)).list(at.path || '.', { recursive });
      printer.answer(stats, (rows) => (rows.length === 0 ? '' : listing(rows)));
    });

  files
    .command('rm')
    .argument('<place>', 'SESSION:PATH', place)
    .description('remove a file or an empty folder')
    .addHelpText(
      'after',
      examples('mobvibe files rm demo:notes.txt', 'mobvibe files rm demo:dist --recursive'),
    )
    .option('-r, --recursive', 'a folder with all that is in it')
    .action(async (at: Place, { recursive = false }) => {
      await (await of(at)).remove(at.path, { recursive });
      printer.answer({ removed: at.path }, () => '');
    });
}

interface Place {
  session: string;
  /** `''` is the workspace itself. */
  path: string;
}

function place(text: string): Place {
  const at = text.indexOf(':');
  const [session, path] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
  if (session === '') throw new InvalidArgumentError('It must be SESSION:PATH.');
  return { session, path };
}

function listing(stats: FileStat[]): string {
  return table(
    ['MODE', 'SIZE', 'CHANGED', 'PATH'],
    stats.map((row) => [
      `${TYPES[row.type]}${row.mode.toString(8).padStart(4, '0')}`,
      row.type === 'file' ? row.size : null,
      new Date(row.mtime_ms).toISOString().slice(0, 19),
      row.target === undefined ? row.path : `${row.path} -> ${row.target}`,
    ]),
  );
}

const TYPES = { file: '-', directory: 'd', symlink: 'l', other: '?' } as const;

async function put(cli: Cli, files: Files, local: string, remote: string): Promise<TreeSummary> {
  if (local === '-') {
    const { size } = await files.write(remote, cli.stdin);
    return oneFile(size);
  }
  const stats = await stat(local);
  return cli.printer.progress(`Copying ${local}`, async (update) => {
    if (stats.isDirectory()) {
      return files.putTree(local, remote || '.', { onFile: (path) => update(`Copying ${path}`) });
    }
    const target = remote === '' || remote.endsWith('/') ? posix.join(remote, basename(local)) : remote;
    const { size } = await files.write(target, createReadStream(local), { mode: stats.mode & 0o7777 });
    return oneFile(size);
  });
}

async function get(cli: Cli, files: Files, remote: string, local: string): Promise<TreeSummary> {
  const { type, mode, size } = await files.stat(remote || '.');
  if (local === '-') {
    await pipeline(await files.readStream(remote), cli.stdout, { end: false });
    return oneFile(size);
  }
  return cli.printer.progress(`Copying ${remote}`, async (update) => {
    if (type === 'directory') {
      return files.getTree(remote || '.', local, { onFile: (path) => update(`Copying ${path}`) });
    }
    const content = await files.readStream(remote);
    await mkdir(dirname(local), { recursive: true });
    await pipeline(content, createWriteStream(local));
    // Nobody gets a set-uid file out of a sandbox.
    await chmod(local, mode & 0o777);
    return oneFile(size);
  });
}

const oneFile = (bytes: number): TreeSummary => ({ files: 1, directories: 0, symlinks: 0, bytes });

const says = (what: string) => (copied: TreeSummary) =>
  `${what}: ${counted(copied.files, 'file')}, ${counted(copied.bytes, 'byte')}${copied.symlinks > 0 ? `, ${counted(copied.symlinks, 'link')}` : ''}`;
