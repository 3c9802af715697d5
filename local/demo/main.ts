/** `npm run demo`: the main job, end to end, on this computer; cleans up after itself and exits 0 when all was as it should be. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MobVibe } from '../../client/index.ts';
import { LOCAL_APP, removeState, type Stack, startStack } from '../stack/stack.ts';
import { leftovers, namespacesBelow, ticksNow } from './leftovers.ts';
import { copyProject } from './project.ts';
import { expect, milliseconds, Steps } from './steps.ts';
import { describeTree, treeDifference } from './tree.ts';

const print = (text: string) => void process.stdout.write(text);
const steps = new Steps(8, print, () => performance.now());
const stateDir = await mkdtemp(join(tmpdir(), 'mobvibe-demo-'));
await chmod(stateDir, 0o711);
let starting: Promise<Stack> | undefined;
let cleaning: Promise<void> | undefined;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (cleaning) process.exit(130);
    print(`\n${signal}: cleaning up (once more: leave at once)\n`);
    void cleanUp()
      .then(() => 130, fail)
      .then((code) => process.exit(code));
  });
}

try {
  await run();
  print(`\nThe main job is done in ${steps.elapsed()}, and nothing is left of it.\n`);
} catch (error) {
  // Whoever interrupts it pulls the stack from under the job.
  if (!cleaning) await explain(error);
} finally {
  await cleanUp().catch(fail);
}

async function run(): Promise<void> {
  const running = await steps.step('Local Supabase, local Fly and the controller come up', async (say) => {
    starting = startStack({
      stateDir,
      onStep: (part, ms) => say(`${part.padEnd(16)} ${milliseconds(ms)}`),
    });
    const up = await starting;
    for (const lack of up.engine.lacks) say(`note: ${lack}`);
    return up;
  });
  const mobvibe = new MobVibe({ url: running.url, apiKey: running.apiKey });

  const session = await steps.step(
    'A session is opened: rows, a machine, its agent dials home',
    async (say) => {
      const opened = await mobvibe.sessions.create({ id: 'demo-first' });
      const { status, sandbox_id: machine, settings } = opened.info;
      say(`session ${opened.id} is ${status} on machine ${machine} in ${settings.region}`);
      say(`${settings.cpus} ${settings.cpu_kind} CPU, ${settings.memory_mb} MB`);
      expect(status === 'ready' && machine !== null, 'the session is ready and names its machine');
      return opened;
    },
  );
  const firstMachine = session.info.sandbox_id;

  const project = join(stateDir, 'project');
  await copyProject(project);
  const original = await describeTree(project);
  await steps.step('An Expo Router project is written into /workspace through the SDK', async (say) => {
    const { files, symlinks, bytes } = await session.files.putTree(project);
    say(
      `${files} files, ${symlinks} link, ${bytes} bytes; among them app/(tabs)/[id].tsx and docs/山歩き.md`,
    );
  });

  await steps.step('A job runs the project’s own tests in the sandbox, with Node', async (say) => {
    const job = await mobvibe.jobs.create(session.id, ['node', '--test']);
    let output = '';
    for await (const chunk of mobvibe.jobs.logs(job.id, { follow: true })) {
      if ('data' in chunk) output += chunk.data.toString();
    }
    for (const line of output.split('\n')) if (/^ℹ (tests|pass|fail) /.test(line)) say(line);
    const done = await mobvibe.jobs.wait(job.id);
    say(`job ${done.status}: ${JSON.stringify(done.result?.result)}`);
    expect(done.status === 'succeeded', 'the project’s tests pass');
  });

  await steps.step('Execs that fail, overrun their deadline or are interrupted say so', async (say) => {
    const failed = await session.exec('echo "no such trail" >&2; exit 3');
    say(`exit 3            → ${JSON.stringify(failed.result)} stderr ${JSON.stringify(failed.stderr)}`);
    expect(failed.exitCode === 3, 'the exit code is 3');
    const late = await session.exec(['sleep', '60'], { timeoutMs: 300 });
    say(`300 ms deadline   → ${JSON.stringify(late.result)}`);
    expect(late.result.kind === 'timed_out' && late.exitCode === null, 'the deadline ended it');
    const handle = await session.execs.start(['sleep', '60']);
    await handle.signal('SIGINT');
    const stopped = await handle.result();
    say(`interrupted       → ${JSON.stringify(stopped.result)}`);
    expect(stopped.result.kind === 'signaled', 'the signal ended it');
  });

  const second = await steps.step(
    'It stops and is opened again: a new machine, the same files',
    async (say) => {
      const other = await mobvibe.sessions.create({ id: 'demo-second' });
      const marked = await session.execs.start(['sleep', '4711']);
      // The brackets keep the look from finding itself.
      const look = 'ls -A /workspace; grep -alE "[4]711" /proc/[0-9]*/cmdline';
      const [own, others] = [await session.exec(look), await other.exec(look)];
      expect(
        /^app\n/m.test(own.stdout) && /^\/proc\//m.test(own.stdout),
        'the first sees its files and process',
      );
      expect(others.stdout === '', `the second sees neither, but:\n${others.stdout}`);
      say('a second session sees no file and no process of the first');
      await marked.signal('SIGTERM');

      await session.stop();
      say(`stopped: version ${session.info.head} of its files is saved`);
      expect(
        session.info.head > 0 && session.info.sandbox_id === null,
        'a version was saved before the machine went',
      );
      await session.open();
      say(`opened on machine ${session.info.sandbox_id}, before ${firstMachine}`);
      expect(session.info.sandbox_id !== firstMachine, 'the machine is a new one');

      const copy = join(stateDir, 'copy');
      await session.files.getTree('.', copy);
      const difference = treeDifference(original, await describeTree(copy));
      expect(difference.length === 0, `the files are the same, but:\n${difference.join('\n')}`);
      say(`${original.length} paths compared: bytes, modes and links are identical`);
      await rm(copy, { recursive: true });
      return other;
    },
  );

  const namespaces = namespacesBelow(running.fly.pid);
  await steps.step('Both sessions stop', async (say) => {
    await Promise.all([session.stop(), second.stop()]);
    say(`${session.id} is ${session.info.status}, ${second.id} is ${second.info.status}`);
    const machines = await listMachines(running);
    expect(machines.length === 0, `local Fly has no machine, but:\n${JSON.stringify(machines)}`);
    say(`local Fly lists ${machines.length} machines`);
  });

  await steps.step('Everything ends; nothing is left', async (say) => {
    expect(namespaces.size > 0, 'the machines had namespaces of their own');
    await running.stop();
    const endedAt = ticksNow();
    await removeState(stateDir);
    const left = leftovers(namespaces, stateDir, endedAt);
    const found = [...left.processes, ...left.mounts, ...left.folders];
    expect(found.length === 0, `nothing is left, but:\n${found.join('\n')}`);
    say(`0 processes, 0 mounts, 0 of ${namespaces.size} namespaces, 0 folders`);
  });
}

/** Asks local Fly itself: the controller could be mistaken. */
async function listMachines({ fly, flyToken }: Stack): Promise<unknown[]> {
  const response = await fetch(`${fly.ready.url}/v1/apps/${LOCAL_APP}/machines`, {
    headers: { authorization: `Bearer ${flyToken}` },
    signal: AbortSignal.timeout(10_000),
  });
  expect(response.ok, `local Fly lists its machines, but it answered ${response.status}`);
  return (await response.json()) as unknown[];
}

async function explain(error: unknown): Promise<void> {
  fail(error);
  const stack = await starting?.catch(() => undefined);
  for (const part of stack ? [stack.controller, stack.fly, stack.supabase] : []) {
    print(`\nLast lines of ${part.name}:\n  ${part.lastLog().join('\n  ')}\n`);
  }
}

function fail(error: unknown): number {
  print(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
  return 1;
}

/** Once, whoever asks first. A stack that is still coming up is waited for: only a whole one can be stopped whole. */
function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    const stack = await starting?.catch(() => undefined);
    await stack?.stop();
    await removeState(stateDir);
  })();
  return cleaning;
}
