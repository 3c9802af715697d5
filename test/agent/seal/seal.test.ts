import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { gather, Rig, until } from '../rig.ts';
import { canNest, isRoot, startAsUid, startNested } from '../ways.ts';

/** Others than that of user.test.ts, which runs at the same time. */
const USER = 41_238;

const WAYS = [
  { name: 'as the agent itself', missing: false, start: () => Rig.start() },
  { name: 'as a uid of its own', missing: !isRoot, start: () => startAsUid(USER) },
  { name: 'in namespaces of its own', missing: !canNest, start: startNested },
];

/** Processes whose directory is the workspace, zombies left out. */
function inWorkspace(rig: Rig): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0)
    .filter((pid) => {
      try {
        return (
          readlinkSync(`/proc/${pid}/cwd`).startsWith(rig.workspace) &&
          !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
        );
      } catch {
        return false;
      }
    });
}

const seal = (rig: Rig, grace_ms: number, fence = 0) => rig.request('POST', '/seal', { fence, grace_ms });

/** Starts a command and waits until it has made a file of the same name. */
async function begin(rig: Rig, id: string, command: string): Promise<void> {
  await rig.request('PUT', `/execs/${id}`, { command, stdin: true });
  await until(async () => (await rig.request('GET', `/files?path=${id}`)).status === 200);
}

describe.each(WAYS)('user code $name', ({ missing, start }) => {
  test.skipIf(missing)('a seal leaves none of its processes, and tells how each exec ended', async () => {
    await using rig = await start();
    await begin(rig, 'polite', 'trap "echo bye; exit 0" TERM; touch polite; while :; do sleep 0.02; done');
    await begin(rig, 'plain', 'touch plain; sleep 1000; true');
    await begin(rig, 'deaf', 'trap "" TERM; touch deaf; while :; do sleep 0.02; done');
    await begin(rig, 'stopped', 'touch stopped; kill -STOP $$; sleep 1000');
    const daemon = `trap : TERM; touch daemon; while :; do sleep 0.02; done`;
    await begin(rig, 'daemon', `(setsid sh -c '${daemon}' &)`);
    await begin(rig, 'zombies', 'perl -e "fork or exit for 1..5; open F, q(>zombies); sleep 1000"');
    const followed = gather(rig.events('GET', '/execs/polite/output'));
    const answer = await seal(rig, 300);
    expect(answer.status).toBe(200);
    expect(inWorkspace(rig)).toEqual([]);
    const { terminated, killed } = answer.json();
    expect(terminated).toBeGreaterThanOrEqual(6);
    expect(killed).toBeGreaterThanOrEqual(2);

    const resultOf = async (id: string) => (await rig.request('GET', `/execs/${id}`)).json().result;
    expect(await resultOf('polite')).toEqual({ kind: 'exited', code: 0 });
    expect(await resultOf('plain')).toEqual({ kind: 'signaled', signal: 'SIGTERM', by: 'stop' });
    expect(await resultOf('deaf')).toEqual({ kind: 'signaled', signal: 'SIGKILL', by: 'stop' });
    expect(await resultOf('stopped')).toEqual({ kind: 'signaled', signal: 'SIGTERM', by: 'stop' });
    expect(await resultOf('daemon')).toEqual({ kind: 'exited', code: 0 });
    expect(await followed).toMatchObject({ stdout: 'bye\n', end: { result: { kind: 'exited', code: 0 } } });

    const late = await rig.request('PUT', '/execs/late', { command: 'true' });
    expect([late.status, late.json().code]).toEqual([409, 'session_stopping']);
    const again = await rig.request('PUT', '/execs/plain', {
      command: 'touch plain; sleep 1000; true',
      stdin: true,
    });
    expect([again.status, again.json().state]).toEqual([200, 'ended']);
    expect((await seal(rig, 0)).json()).toEqual(answer.json());
    expect((await rig.request('GET', '/health')).status).toBe(200);
  });

  test.skipIf(missing)('those that fork all the time are caught, too', async () => {
    await using rig = await start();
    const pause = 'select undef, undef, undef, 0.02';
    // Each lives for a moment only, and has a child by then.
    const chain = `open F, q(>>chain); syswrite F, q(.); close F; fork and exit; ${pause}`;
    await begin(rig, 'chain', `perl -e 'for (1..3) { fork or last } while () { ${chain} }'`);
    await begin(rig, 'tree', "perl -e 'open F, q(>tree); for (1..6) { fork } while () { sleep 1 }'");
    expect((await seal(rig, 0)).status).toBe(200);
    expect(inWorkspace(rig)).toEqual([]);
    const sizeOf = async () => (await rig.request('GET', '/files/stat?path=chain')).json().size;
    const before = await sizeOf();
    // Time for one that was missed to write.
    for (let i = 0; i < 5; i += 1) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await sizeOf()).toBe(before);
  });
});

test('input that is under way ends with the seal, whether the process does not read or no more bytes come', async () => {
  await using rig = await Rig.start();
  await begin(rig, 'a', 'touch a; sleep 1000');
  await begin(rig, 'b', 'touch b; cat > got');
  const blocked = rig.request('POST', '/execs/a/stdin?offset=0', Buffer.alloc(8 << 20));
  const open = await rig.open('POST', '/execs/b/stdin?offset=0');
  open.write('12345');
  let answer = '';
  open.on('data', (text) => {
    answer += text;
  });
  await until(async () => (await rig.request('GET', '/files?path=got')).body.toString() === '12345');
  expect((await seal(rig, 0)).status).toBe(200);
  expect((await blocked).json().code).toBe('session_stopping');
  await until(() => answer.includes('session_stopping'));
});

test('a fence below the own or one that was seen is refused, and a bad request', async () => {
  await using rig = await Rig.start({ MOBVIBE_FENCE: '7' });
  const refused = await seal(rig, 0, 6);
  expect([refused.status, refused.json().code]).toEqual([409, 'fenced']);
  expect((await rig.run('still', 'echo open')).stdout).toBe('open\n');
  for (const body of [{}, { fence: 7 }, { fence: -1, grace_ms: 0 }, { fence: 7, grace_ms: 600_001 }]) {
    expect((await rig.request('POST', '/seal', body)).json().code).toBe('invalid_request');
  }
  expect((await seal(rig, 0, 9)).json()).toEqual({ terminated: 0, killed: 0 });
  expect((await seal(rig, 0, 8)).json().code).toBe('fenced');
  expect((await seal(rig, 0, 9)).status).toBe(200);
});

test('an agent that is started again after a seal is still sealed', async () => {
  await using rig = await Rig.start();
  await seal(rig, 0);
  rig.agent.kill('SIGKILL');
  await rig.cut();
  rig.launch({ MOBVIBE_AGENT_RESTARTED: 'crashed' });
  expect((await rig.request('PUT', '/execs/late', { command: 'true' })).json().code).toBe('session_stopping');
  expect((await seal(rig, 0)).status).toBe(200);
});
