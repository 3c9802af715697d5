import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { until } from '../rig.ts';
import { canNest, isRoot, NESTED_UID, nestedPrefix } from '../ways.ts';

const PROGRAM = fileURLToPath(new URL('user-process.ts', import.meta.url));
/** Another than those of the other tests of agents. */
const USER = 41_239;

const WAYS = [
  { name: 'as the agent itself', missing: false, user: undefined, prefix: [] },
  { name: 'as a uid of its own', missing: !isRoot, user: `${USER}:${USER}`, prefix: [] },
  { name: 'in namespaces of its own', missing: !canNest, user: 'nested', prefix: nestedPrefix },
];

/** The user's side in another process, and a workspace. */
class Side implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'user-test-'));
  readonly #child: ChildProcess;
  readonly #waiting: ((message: { done?: unknown; failed?: string }) => void)[] = [];
  readonly ended: { code: number | null; signal: string | null }[] = [];
  readonly #ready: Promise<unknown>;

  constructor({ user, prefix }: { user: string | undefined; prefix: string[] }) {
    chmodSync(this.dir, 0o755);
    if (user === 'nested' && isRoot) chownSync(this.dir, NESTED_UID, NESTED_UID);
    const [file, ...args] = [...prefix, process.execPath, PROGRAM];
    this.#child = spawn(file!, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        PATH: process.env.PATH,
        MOBVIBE_AGENT_DIAL_URL: 'ws://nowhere',
        MOBVIBE_AGENT_TOKEN: 'none',
        MOBVIBE_SANDBOX: 's-test-1',
        MOBVIBE_WORKSPACE_DIR: join(this.dir, 'workspace'),
        MOBVIBE_AGENT_STATE_DIR: join(this.dir, 'state'),
        MOBVIBE_USER_HOME_DIR: join(this.dir, 'home'),
        ...(user === undefined ? {} : { MOBVIBE_AGENT_USER: user }),
      },
    });
    const lines = createInterface({ input: this.#child.stdout! });
    this.#ready = once(lines, 'line').then(() =>
      lines.on('line', (line) => {
        const message = JSON.parse(line);
        if (message.ended !== undefined) this.ended.push(message.ended);
        else this.#waiting.shift()!(message);
      }),
    );
  }

  async ask(line: string): Promise<unknown> {
    await this.#ready;
    const answer = new Promise<{ done?: unknown; failed?: string }>((resolve) => this.#waiting.push(resolve));
    this.#child.stdin!.write(`${line}\n`);
    const { done, failed } = await answer;
    if (failed !== undefined) throw new Error(failed);
    return done;
  }

  /** On a computer that is busy the processes may not stand still in time. */
  async freeze(): Promise<void> {
    await until(() =>
      this.ask('freeze').then(
        () => true,
        () => false,
      ),
    );
  }

  bytes(name: string): number {
    return statSync(join(this.dir, 'workspace', name), { throwIfNoEntry: false })?.size ?? 0;
  }

  /** The states of the processes whose command line holds the text. */
  static states(text: string): string[] {
    return readdirSync('/proc')
      .filter((name) => Number(name) > 0)
      .flatMap((pid) => {
        try {
          if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text)) return [];
          return /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1] ?? [];
        } catch {
          return [];
        }
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ask('end 0');
    const gone = once(this.#child, 'exit');
    this.#child.stdin!.end();
    await gone;
    rmSync(this.dir, { recursive: true, force: true });
  }
}

describe.each(WAYS)('processes of the user $name', (way) => {
  test.skipIf(way.missing)('stand still while they are frozen, and go on as they were', async () => {
    await using side = new Side(way);
    const stopped = `stopped-${process.pid}-${WAYS.indexOf(way)}`;
    await side.ask('run while :; do echo . >> loop; done');
    // Each has a child, which goes on in its place.
    await side.ask(
      `run perl -e 'while () { open F, q(>>chain); syswrite F, q(.); close F; fork and exit; select undef, undef, undef, 0.03 }'`,
    );
    await side.ask(`run (setsid sh -c 'while :; do /bin/true; echo . >> daemon; done' &)`);
    await side.ask(`run exec perl -e '$0 = q(${stopped}); kill STOP, $$; open F, q(>went-on); sleep 1000'`);
    const names = ['loop', 'chain', 'daemon'];
    await until(() => names.every((name) => side.bytes(name) > 10));
    await until(() => Side.states(stopped).includes('T'));

    for (let round = 0; round < 3; round += 1) {
      await side.freeze();
      const before = names.map((name) => side.bytes(name));
      // Time for one that runs to go on.
      for (let i = 0; i < 5; i += 1) await new Promise((resolve) => setTimeout(resolve, 10));
      expect(names.map((name) => side.bytes(name))).toEqual(before);
      await side.ask('thaw');
      await until(() => names.every((name, i) => side.bytes(name) > before[i]!));
    }
    expect(side.bytes('went-on')).toBe(0);
    expect(Side.states(stopped)).toContain('T');
    // The two that are not daemons end, and that is seen: whoever looks after them goes on as well.
    await side.ask('end 1000');
    await until(() => side.ended.length === 4);
    expect(await side.ask('count')).toBe(0);
  });

  test.skipIf(way.missing)('can be ended while they are frozen', async () => {
    await using side = new Side(way);
    await side.ask('run trap "" TERM; while :; do echo . >> loop; done');
    await until(() => side.bytes('loop') > 10);
    await side.freeze();
    expect(await side.ask('end 0')).toMatchObject({ killed: expect.any(Number) });
    await until(() => side.ended.length === 1);
    await side.ask('thaw');
    await side.ask('run echo . >> again');
    await until(() => side.bytes('again') > 0);
  });
});
