import { existsSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ExecEvent } from '../../../controller/agents/wire.ts';
import { alive, gather, Rig, until } from '../rig.ts';

let rig: Rig;
let made = 0;
const id = () => `e${made++}`;

beforeAll(async () => {
  rig = await Rig.start({ A_SECRET_OF_THE_PLATFORM: 'secret' });
});
afterAll(() => rig[Symbol.asyncDispose]());

describe('results', () => {
  test.each([
    ['exit 0', { kind: 'exited', code: 0 }],
    ['exit 7', { kind: 'exited', code: 7 }],
    ['kill -KILL $$', { kind: 'signaled', signal: 'SIGKILL' }],
    ['kill -INT $$', { kind: 'signaled', signal: 'SIGINT' }],
  ])('%s', async (command, result) => {
    expect((await rig.run(id(), command)).end?.result).toEqual(result);
  });

  test('output and its counts come apart by stream', async () => {
    const { stdout, stderr, end, events } = await rig.run(id(), 'printf out; printf error >&2');
    expect([stdout, stderr]).toEqual(['out', 'error']);
    expect(end).toMatchObject({ stdout_bytes: 3, stderr_bytes: 5 });
    expect(events[0]).toMatchObject({ type: 'start', pid: expect.any(Number) });
  });

  test('an array runs as it stands, without a shell', async () => {
    expect((await rig.run(id(), { command: ['printf', '%s|', '$HOME', 'a b', '*'] })).stdout).toBe(
      '$HOME|a b|*|',
    );
  });

  test('the deadline ends the whole group, and the result says so', async () => {
    const { end, stdout } = await rig.run(id(), { command: 'sleep 1000 & echo $!; wait', timeout_ms: 200 });
    expect(end?.result).toEqual({ kind: 'timed_out', timeout_ms: 200 });
    await until(() => !alive(Number(stdout)));
  });

  test('a straggler in a session of its own goes with the deadline', async () => {
    // A duration that nobody else on this computer sleeps for.
    const sleep = `sleep 1000.${process.pid}`;
    const command = `setsid ${sleep} & echo $!; (setsid sh -c "${sleep} & wait" & wait) & wait`;
    const { end, stdout } = await rig.run(id(), { command, timeout_ms: 300 });
    expect(end?.result.kind).toBe('timed_out');
    await until(() => !alive(Number(stdout)));
    await until(async () => (await rig.run(id(), `pgrep -fx "${sleep}" || true`)).stdout === '');
  });

  test('so does a daemon, which has neither a parent nor a session of the exec any more', async () => {
    const command = '(setsid sh -c "echo \\$\\$; exec sleep 1000" &); sleep 0.2; sleep 1000';
    const { end, stdout } = await rig.run(id(), { command, timeout_ms: 600 });
    expect(end?.result.kind).toBe('timed_out');
    expect(Number(stdout)).toBeGreaterThan(0);
    await until(() => !alive(Number(stdout)));
  });

  test('a process that ignores SIGTERM is killed 5 s after the deadline', async () => {
    const command = 'trap "" TERM; while :; do sleep 0.05; done';
    const { end } = await rig.run(id(), { command, timeout_ms: 100 });
    expect(end?.result).toEqual({ kind: 'timed_out', timeout_ms: 100 });
    expect(end!.duration_ms).toBeGreaterThanOrEqual(5_000);
  });

  test('a process in the background does not keep the exec open, lives on and may go on writing', async () => {
    const command =
      'sh -c "echo early; until [ -e go ]; do sleep 0.02; done; seq 100000; touch done" & echo $!';
    const { end, stdout } = await rig.run(id(), command);
    expect(end?.result).toEqual({ kind: 'exited', code: 0 });
    expect(stdout.split('\n')).toContain('early');
    await writeFile(join(rig.workspace, 'go'), '');
    await until(() => existsSync(join(rig.workspace, 'done')));
  });

  test('output that the process leaves in its pipe at its end is not lost', async () => {
    const { bytes, end } = await rig.run(id(), 'head -c 3000000 /dev/zero; exit 3');
    expect(bytes.stdout.length).toBe(3_000_000);
    expect(end).toMatchObject({ result: { kind: 'exited', code: 3 }, stdout_bytes: 3_000_000 });
  });
});

describe('what user code is given', () => {
  test('a clean environment, with what the caller adds', async () => {
    const { stdout } = await rig.run(id(), { command: ['env'], env: { A: 'b c', LANG: 'C' } });
    const env = Object.fromEntries(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.split(/=(.*)/s).slice(0, 2)),
    );
    expect(env).toMatchObject({
      A: 'b c',
      LANG: 'C',
      USER: 'user',
      TERM: 'dumb',
      SANDBOX_EXEC_ID: expect.any(String),
      HOME: join(rig.dir, 'home'),
    });
    expect(Object.keys(env).filter((name) => /MOBVIBE|SECRET/.test(name))).toEqual([]);
  });

  test('no descriptors but its own three', async () => {
    expect(
      (await rig.run(id(), { command: ['ls', '/proc/self/fd'] })).stdout.split('\n').slice(0, -1),
    ).toEqual(['0', '1', '2', '3']);
  });

  test('stdout and stderr can be opened by name, as scripts do', async () => {
    const { stdout, stderr } = await rig.run(
      id(),
      'echo a > /dev/stdout; echo b > /dev/stderr; echo c >> /dev/fd/1',
    );
    expect([stdout, stderr]).toEqual(['a\nc\n', 'b\n']);
  });

  test('a working directory', async () => {
    await mkdir(join(rig.workspace, 'sub dir'), { recursive: true });
    expect((await rig.run(id(), 'pwd')).stdout).toBe(`${rig.workspace}\n`);
    expect((await rig.run(id(), { command: 'pwd', cwd: 'sub dir' })).stdout).toBe(
      `${rig.workspace}/sub dir\n`,
    );
    expect((await rig.run(id(), { command: 'pwd', cwd: '/' })).stdout).toBe('/\n');
  });
});

describe('refusals', () => {
  test.each([
    [{ command: [] }, 'invalid_command'],
    [{ command: '' }, 'invalid_command'],
    [{ command: ' ' }, 'invalid_command'],
    [{ command: [''] }, 'invalid_command'],
    [{ command: 'a\0b' }, 'invalid_command'],
    [{ command: ['a', 'b\0'] }, 'invalid_command'],
    [{ command: 5 }, 'invalid_command'],
    [{}, 'invalid_command'],
    [{ command: ['no-such-program'] }, 'command_not_found'],
    [{ command: ['/etc/passwd'] }, 'command_not_found'],
    [{ command: ['/'] }, 'command_not_found'],
    [{ command: 'true', cwd: 'nowhere' }, 'cwd_not_found'],
    [{ command: 'true', cwd: '/etc/passwd' }, 'cwd_not_found'],
    [{ command: 'true', cwd: 'a\0' }, 'invalid_path'],
    [{ command: 'true', env: { 'A=B': '1' } }, 'invalid_request'],
    [{ command: 'true', env: { A: '\0' } }, 'invalid_request'],
    [{ command: 'true', env: { A: 1 } }, 'invalid_request'],
    [{ command: 'true', timeout_ms: 0 }, 'invalid_request'],
    [{ command: 'true', timeout_ms: 1.5 }, 'invalid_request'],
    [{ command: 'true', stdin: 'yes' }, 'invalid_request'],
  ])('%j is %s', async (spec, code) => {
    const exec = id();
    const answer = await rig.request('PUT', `/execs/${exec}?follow=1`, spec);
    expect(answer.json()).toMatchObject({ code, detail: expect.any(String) });
    // It did not start, so the id is free.
    expect((await rig.request('GET', `/execs/${exec}`)).json().code).toBe('exec_not_found');
  });

  test('a word longer than the kernel takes', async () => {
    const answer = await rig.request('PUT', `/execs/${id()}`, { command: ['echo', 'x'.repeat(200_000)] });
    expect(answer.json().code).toBe('invalid_command');
  });

  test('a body that is not a JSON object', async () => {
    for (const body of ['{', '[]', 'null', '']) {
      expect((await rig.request('PUT', `/execs/${id()}`, body)).json().code).toBe('invalid_json');
    }
    const huge = Buffer.alloc(5 << 20, ' ');
    const answer = await rig.request('PUT', `/execs/${id()}`, huge);
    expect([answer.status, answer.json().code]).toEqual([413, 'body_too_large']);
    expect((await rig.request('GET', '/health')).status).toBe(200);
  });

  test('ids with odd characters', async () => {
    for (const odd of ['a.b', 'a%2Fb', 'ä', 'x'.repeat(65)]) {
      const answer = await rig.request('PUT', `/execs/${encodeURI(odd)}`, { command: 'true' });
      expect(answer.json().code).toBe('invalid_id');
    }
  });
});

describe('ids', () => {
  test('the same id with the same spec attaches, and runs once', async () => {
    const exec = id();
    const spec = { command: 'echo x >> runs; sleep 0.2; echo hi', env: { A: '1', B: '2' } };
    const same = {
      timeout_ms: 300_000,
      env: { B: '2', A: '1' },
      cwd: '',
      stdin: false,
      command: spec.command,
    };
    const both = await Promise.all([
      rig.request('PUT', `/execs/${exec}`, spec),
      rig.request('PUT', `/execs/${exec}`, same),
      gather(rig.events('PUT', `/execs/${exec}?follow=1`, same)),
    ]);
    expect([both[0].status, both[1].status].sort()).toContain(200);
    expect(both[2].stdout).toBe('hi\n');
    expect((await rig.run(exec, spec)).stdout).toBe('hi\n');
    expect(await readFile(join(rig.workspace, 'runs'), 'utf8')).toBe('x\n');
  });

  test('the same id with another spec is a conflict', async () => {
    const exec = id();
    expect((await rig.request('PUT', `/execs/${exec}`, { command: 'true' })).status).toBe(201);
    for (const spec of [{ command: 'false' }, { command: ['true'] }, { command: 'true', env: { A: '' } }]) {
      const answer = await rig.request('PUT', `/execs/${exec}`, spec);
      expect([answer.status, answer.json().code]).toEqual([409, 'exec_conflict']);
    }
  });

  test('an exec is known by its id while it runs and after', async () => {
    const exec = id();
    await rig.request('PUT', `/execs/${exec}`, { command: 'cat', stdin: true });
    const running = (await rig.request('GET', `/execs/${exec}`)).json();
    expect(running).toMatchObject({ id: exec, state: 'running', stdout_bytes: 0 });
    await rig.request('POST', `/execs/${exec}/stdin?offset=0&eof=1`, 'abc');
    await gather(rig.events('GET', `/execs/${exec}/output`));
    const ended = (await rig.request('GET', `/execs/${exec}`)).json();
    expect(ended).toMatchObject({
      state: 'ended',
      pid: running.pid,
      stdout_bytes: 3,
      result: { kind: 'exited', code: 0 },
    });
    const all = (await rig.request('GET', '/execs')).json() as { id: string }[];
    expect(all.find((each) => each.id === exec)).toEqual(ended);
  });
});

describe('signals', () => {
  test('go to the whole group', async () => {
    const exec = id();
    // Not SIGINT, which a shell makes its background jobs ignore.
    const command = `trap '' TERM; sh -c 'trap "echo child; exit" USR1; echo up; while :; do sleep 0.02; done' & trap : USR1; wait`;
    const seen: ExecEvent[] = [];
    for await (const event of rig.events('PUT', `/execs/${exec}?follow=1`, { command })) {
      seen.push(event);
      if (event.type === 'stdout' && event.data.includes('up')) {
        expect((await rig.request('POST', `/execs/${exec}/signal`, { signal: 'SIGUSR1' })).status).toBe(204);
      }
    }
    expect(seen.flatMap((event) => (event.type === 'stdout' ? event.data : [])).join('')).toBe('up\nchild\n');
  });

  test('SIGKILL reaches one that left the group, and an ended exec takes none', async () => {
    const exec = id();
    const command = 'setsid sleep 1000 & echo $!; wait';
    let straggler = 0;
    for await (const event of rig.events('PUT', `/execs/${exec}?follow=1`, { command })) {
      if (event.type === 'stdout') {
        straggler = Number(event.data);
        await rig.request('POST', `/execs/${exec}/signal`, { signal: 'SIGKILL' });
      }
      if (event.type === 'end') expect(event.result).toEqual({ kind: 'signaled', signal: 'SIGKILL' });
    }
    await until(() => !alive(straggler));
    const late = await rig.request('POST', `/execs/${exec}/signal`, { signal: 'SIGTERM' });
    expect([late.status, late.json().code]).toEqual([409, 'exec_ended']);
    for (const signal of ['TERM', 15, undefined, 'toString']) {
      expect((await rig.request('POST', `/execs/${exec}/signal`, { signal })).json().code).not.toBe(
        'internal',
      );
    }
  });
});

describe('stdin', () => {
  test('is empty unless asked for', async () => {
    expect((await rig.run(id(), 'cat')).end).toMatchObject({
      result: { kind: 'exited', code: 0 },
      stdout_bytes: 0,
    });
    const exec = id();
    await rig.request('PUT', `/execs/${exec}`, { command: 'sleep 1000' });
    expect((await rig.request('POST', `/execs/${exec}/stdin?offset=0`, 'x')).json().code).toBe(
      'invalid_request',
    );
    await rig.request('POST', `/execs/${exec}/signal`, { signal: 'SIGKILL' });
  });

  test('bytes sent again are taken once, a gap is refused', async () => {
    const exec = id();
    await rig.request('PUT', `/execs/${exec}`, { command: 'cat', stdin: true });
    const send = async (offset: number, text: string, eof = '') =>
      (await rig.request('POST', `/execs/${exec}/stdin?offset=${offset}${eof}`, text)).json();
    expect(await send(0, 'hello')).toEqual({ received: 5 });
    expect(await send(0, 'hello')).toEqual({ received: 5 });
    expect(await send(3, 'lo wor')).toEqual({ received: 9 });
    expect((await send(10, 'x')).code).toBe('stdin_conflict');
    expect(await send(9, 'ld', '&eof=1')).toEqual({ received: 11 });
    expect(await send(9, 'ld', '&eof=1')).toMatchObject({});
    const { stdout } = await gather(rig.events('GET', `/execs/${exec}/output`));
    expect(stdout).toBe('hello world');
    expect((await send(11, 'x')).code).toBe('exec_ended');
  });

  test('an end that belongs to a broken request does not count', async () => {
    const exec = id();
    await rig.request('PUT', `/execs/${exec}`, { command: 'cat', stdin: true });
    const sending = await rig.open('POST', `/execs/${exec}/stdin?offset=0&eof=1`, { 'content-length': 10 });
    sending.write('12345');
    await until(async () => (await rig.request('GET', `/execs/${exec}`)).json().stdout_bytes === 5);
    sending.close(8);
    const rest = await rig.request('POST', `/execs/${exec}/stdin?offset=0&eof=1`, '1234567890');
    expect(rest.json()).toEqual({ received: 10 });
    expect((await gather(rig.events('GET', `/execs/${exec}/output`))).stdout).toBe('1234567890');
  });

  test('a process that does not read makes the sender wait, not the memory grow', async () => {
    const exec = id();
    await rig.request('PUT', `/execs/${exec}`, { command: 'sleep 0.5; wc -c', stdin: true });
    const bytes = 64 << 20;
    const answer = await rig.request('POST', `/execs/${exec}/stdin?offset=0&eof=1`, Buffer.alloc(bytes));
    expect(answer.json()).toEqual({ received: bytes });
    expect((await gather(rig.events('GET', `/execs/${exec}/output`))).stdout.trim()).toBe(String(bytes));
  });

  test('a process that has closed its input drops what comes', async () => {
    const exec = id();
    await rig.request('PUT', `/execs/${exec}`, { command: 'exec 0<&-; sleep 0.3', stdin: true });
    const answer = await rig.request('POST', `/execs/${exec}/stdin?offset=0`, Buffer.alloc(1 << 20));
    expect([200, 409]).toContain(answer.status);
  });
});

test('the exec goes on when its reader goes away', async () => {
  const exec = id();
  const stream = await rig.open('PUT', `/execs/${exec}?follow=1`);
  stream.end(JSON.stringify({ command: 'sleep 0.2; echo still here' }));
  await new Promise((resolve) => stream.once('data', resolve));
  stream.close(8);
  expect((await gather(rig.events('GET', `/execs/${exec}/output`))).stdout).toBe('still here\n');
});

test('a symlinked workspace path as cwd works', async () => {
  await mkdir(join(rig.workspace, 'real'), { recursive: true });
  await symlink('real', join(rig.workspace, 'link'));
  expect((await rig.run(id(), { command: 'pwd -P', cwd: 'link' })).stdout).toBe(`${rig.workspace}/real\n`);
});
