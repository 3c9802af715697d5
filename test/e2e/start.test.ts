import { once } from 'node:events';
import { chmod, mkdtemp, readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { removeState } from '../../local/stack/stack.ts';
import { Cli } from '../client/support/run-cli.ts';

let folder: string;
let configFile: string;
const running: Cli[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mv-start-'));
  await chmod(folder, 0o711);
  configFile = join(folder, 'cli/local.json');
});
afterAll(async () => {
  for (const cli of running) {
    if (cli.child.exitCode === null) cli.child.kill('SIGKILL');
    await cli.ended;
  }
  await removeState(folder);
});

function mobvibe(...args: string[]): Cli {
  const cli = new Cli(args, { MOBVIBE_CONFIG_FILE: configFile });
  cli.child.stdin!.end();
  running.push(cli);
  return cli;
}
const up = (...more: string[]) => mobvibe('up', '--port', '0', '--state-dir', join(folder, 's'), ...more);
const upJson = async () => {
  const cli = up('--json');
  await vi.waitFor(() => expect(cli.output).toMatch(/\n$/), 50_000);
  return { cli, said: JSON.parse(cli.output) };
};

test('every line that it prints to be typed works, and Ctrl-C ends it', async () => {
  const stack = up();
  await vi.waitFor(() => expect(stack.output).toContain('Ctrl-C stops it'), 50_000);
  expect((await stat(configFile)).mode & 0o777).toBe(0o600);
  const lines = [...stack.output.matchAll(/^ {2}npx mobvibe (.*)$/gm)].map((match) => match[1]!.split(' '));
  expect(lines.map(([command]) => command)).toEqual(['session', 'exec', 'files', 'job', 'session']);
  const outputs: string[] = [];
  for (const args of lines) {
    const { code, stdout, stderr } = await mobvibe(...args).ended;
    expect([args, code, stderr]).toEqual([args, 0, '']);
    outputs.push(String(stdout));
  }
  expect(outputs.join('')).toMatch(
    /hello is ready[\s\S]*v24\.[\s\S]*copied in[\s\S]*fail 0[\s\S]*hello is stopped/,
  );
  // The README promises the same lines.
  const readme = await readFile('README.md', 'utf8');
  for (const args of lines) expect(readme).toContain(`npx mobvibe ${args.join(' ')}\n`);

  stack.child.kill('SIGINT');
  expect(await stack.ended).toMatchObject({ code: 0, stderr: '' });
  await expect(stat(configFile)).rejects.toThrow('ENOENT');
});

test('started again it has the saved files; with --json it says on one line where it is', async () => {
  const { cli, said } = await upJson();
  expect(said).toMatchObject({ url: expect.stringMatching(/^http:\/\/127/), config_file: configFile });
  expect(String((await mobvibe('session', 'open', 'hello').ended).stdout)).toContain('hello is ready');
  expect(String((await mobvibe('files', 'ls', 'hello:app').ended).stdout)).toContain('app/modal.tsx');

  // The same folder twice: the second one says so and takes nothing from the first.
  const again = await up('--json').ended;
  expect([again.code, JSON.parse(again.stderr)]).toEqual([
    1,
    { error: { code: 'start_failed', detail: expect.stringContaining('is in use') } },
  ]);
  expect((await mobvibe('session', 'show', 'hello').ended).code).toBe(0);
  cli.child.kill('SIGTERM');
  expect((await cli.ended).code).toBe(0);
});

test('Ctrl-C saves what is open before the machines go; npm’s second signal is the same key press', async () => {
  const stack = up();
  await vi.waitFor(() => expect(stack.output).toContain('Running at'), 50_000);
  expect((await mobvibe('session', 'create', '--id', 'kept').ended).code).toBe(0);
  expect((await mobvibe('session', 'create', '--id', 'other').ended).code).toBe(0);
  expect((await mobvibe('exec', 'kept', '--', 'sh', '-c', 'echo not saved yet > late.txt').ended).code).toBe(
    0,
  );
  stack.child.kill('SIGINT');
  stack.child.kill('SIGINT');
  expect(await stack.ended).toMatchObject({ code: 0, stderr: '' });
  expect(stack.output).toMatch(
    /saving and stopping 2 sessions kept, other [\s\S]*kept is saved and stopped\n/,
  );

  const { cli } = await upJson();
  expect(String((await mobvibe('session', 'show', 'kept').ended).stdout)).toMatch(/status +stopped/);
  expect((await mobvibe('session', 'open', 'kept').ended).code).toBe(0);
  expect(String((await mobvibe('files', 'get', 'kept:late.txt', '-').ended).stdout)).toBe('not saved yet\n');
  cli.child.kill('SIGTERM');
  expect(await cli.ended).toMatchObject({ code: 0, stderr: '' });
});

test('a second Ctrl-C does not wait for a save, and says what is lost', async () => {
  const stack = up();
  await vi.waitFor(() => expect(stack.output).toContain('Running at'), 50_000);
  expect((await mobvibe('session', 'create', '--id', 'stuck').ended).code).toBe(0);
  expect((await mobvibe('exec', 'stuck', '--', 'sh', '-c', 'echo x > lost.txt').ended).code).toBe(0);
  // The way to the storage stands still: no save comes to an end.
  const egress = await childNamed(stack.child.pid!, 'egress/main.ts');
  process.kill(egress, 'SIGSTOP');
  stack.child.kill('SIGINT');
  await vi.waitFor(() => expect(stack.output).toContain('saving and stopping session stuck'), 20_000);
  await vi.waitFor(
    () => {
      // Those that come too soon after another are not counted.
      stack.child.kill('SIGINT');
      expect(stack.output).toContain('stopping …');
    },
    { timeout: 20_000, interval: 1_100 },
  );
  process.kill(egress, 'SIGCONT');
  const { code, stderr } = await stack.ended;
  expect([code, stderr]).toEqual([130, expect.stringMatching(/^Not saved, .* is lost: stuck\.\n$/)]);
});

test('a part that dies takes the rest along, and its name is told', async () => {
  const { cli, said } = await upJson();
  expect(said.engine).toBe('namespaces');
  const { status } = await fetch(`${said.url}/healthz`);
  expect(status).toBe(200);
  const egress = await childNamed(cli.child.pid!, 'egress/main.ts');
  process.kill(egress, 'SIGKILL');
  const { code, stderr } = await cli.ended;
  expect(code).toBe(1);
  expect(JSON.parse(stderr).error).toMatchObject({
    code: 'part_ended',
    detail: expect.stringContaining('egress proxy ended by itself (SIGKILL)'),
  });
});

test.each([
  ['taken', async () => String(await takenPort()), 1, /^Port \d+ of 127\.0\.0\.1 is in use: .*--port/],
  ['no number', async () => 'http', 2, /^--port must be .* got "http"/],
  ['empty', async () => '', 2, /^--port must be .* got ""/],
])('a port that is %s is named at once', async (_what, port, code, sentence) => {
  const run = await mobvibe('up', '--port', await port(), '--state-dir', join(folder, 'never')).ended;
  expect([run.code, run.stderr]).toEqual([code, expect.stringMatching(sentence)]);
  await expect(stat(join(folder, 'never'))).rejects.toThrow('ENOENT');
});

async function takenPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1').unref();
  await once(server, 'listening');
  return (server.address() as { port: number }).port;
}

/** The process below `root` whose command line has this word. */
async function childNamed(root: number, word: string): Promise<number> {
  for (const pid of await childrenOf(root)) {
    if ((await readFile(`/proc/${pid}/cmdline`, 'utf8')).includes(word)) return pid;
    const deeper = await childNamed(pid, word);
    if (deeper > 0) return deeper;
  }
  return 0;
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}
