import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Rig, TOKEN } from '../rig.ts';
import { canNest, isRoot, startAsUid, startNested, USER } from '../ways.ts';

/** What user code must not manage, and how it shows: a command that prints LEAK when it did. */
const ATTEMPTS: Record<string, (agent: string, rig: Rig) => string> = {
  'read the environment of the agent': (agent) =>
    `tr '\\0' '\\n' < /proc/${agent}/environ | grep -q TOKEN && echo LEAK`,
  'read its memory': (agent) =>
    `head -c 1 /proc/${agent}/mem; cat /proc/${agent}/maps | grep -q . && echo LEAK`,
  'see its descriptors': (agent) => `ls /proc/${agent}/fd/ | grep -q . && echo LEAK`,
  'find the token anywhere': () =>
    `grep -aqs '[${TOKEN.split('.')[1]![0]}]${TOKEN.split('.')[1]!.slice(1)}' /proc/[0-9]*/environ /proc/[0-9]*/cmdline && echo LEAK`,
  'read its state': (_agent, { state }) => `ls ${state}/* | grep -q . && echo LEAK`,
  'see what it hides': (_agent, { state }) => `touch ${state}/x && echo LEAK`,
};

async function expectSafe(rig: Rig, agent: string): Promise<void> {
  for (const [what, command] of Object.entries(ATTEMPTS)) {
    const { stdout, end } = await rig.run(what.replaceAll(/\W/g, '-'), command(agent, rig));
    expect(end?.result.kind, what).toBe('exited');
    expect(stdout, what).not.toContain('LEAK');
  }
  const { boot_id } = (await rig.request('GET', '/health')).json();
  for (const signal of ['TERM', 'USR1', 'STOP', 'KILL']) {
    await rig.run(`signal-${signal}`, {
      command: ['sh', '-c', `kill -${signal} ${agent}; kill -${signal} 1; true`],
    });
  }
  // All that it may signal, it may: the agent isn't among them.
  expect((await rig.run('everyone', 'kill -KILL -1; true')).end).toBeDefined();
  expect((await rig.request('GET', '/health')).json().boot_id).toBe(boot_id);
  expect((await rig.run('inspector', 'echo > /dev/tcp/127.0.0.1/9229 && echo LEAK')).stdout).toBe('');
}

describe.skipIf(!isRoot)('user code as a uid of its own (needs root)', () => {
  test('it is that user, without power, and its files are its own', async () => {
    await using rig = await startAsUid();
    const { stdout } = await rig.run(
      'id',
      'id -u; id -g; id -G; grep CapEff /proc/self/status; echo x > f; touch ~/h && echo home',
    );
    expect(stdout).toBe(`${USER}\n${USER}\n${USER}\nCapEff:\t0000000000000000\nhome\n`);
    await rig.request('PUT', '/files?path=a/b/c', 'written');
    await rig.request('POST', '/files/mkdir', { path: 'd/e' });
    for (const path of ['', 'f', 'a', 'a/b', 'a/b/c', 'd', 'd/e']) {
      const { uid, gid } = statSync(join(rig.workspace, path));
      expect([uid, gid], path).toEqual([USER, USER]);
    }
    expect(
      (await rig.run('edit', 'cat a/b/c && echo more >> a/b/c && mv a/b/c d/e/ && rm -r a')).stdout,
    ).toBe('written');
  });

  test('stdout can be opened by name there, too', async () => {
    await using rig = await startAsUid();
    expect((await rig.run('a', 'echo a > /dev/stdout; echo b > /dev/stderr')).bytes).toEqual({
      stdout: Buffer.from('a\n'),
      stderr: Buffer.from('b\n'),
    });
  });

  test('it can neither read, signal nor debug the agent', async () => {
    await using rig = await startAsUid();
    await expectSafe(rig, String(rig.agent.pid));
  });

  test('what it may not read itself, the agent does not read for it', async () => {
    await using rig = await startAsUid();
    mkdirSync(join(rig.dir, 'private'), { mode: 0o700 });
    writeFileSync(join(rig.dir, 'private/secret'), 'secret');
    await rig.run(
      'link',
      `ln -s ${join(rig.dir, 'private/secret')} soft; ln ${join(rig.dir, 'private/secret')} hard`,
    );
    expect((await rig.request('GET', '/files?path=soft')).json().code).toBe('path_outside');
    // A process changes its directory before it becomes the user, and from there even what is closed above would be open.
    mkdirSync(join(rig.dir, 'private/open'));
    writeFileSync(join(rig.dir, 'private/open/secret'), 'secret');
    await rig.run('cwd-link', `ln -s ${join(rig.dir, 'private/open')} door`);
    for (const [id, cwd] of Object.entries({
      a: join(rig.dir, 'private'),
      b: join(rig.dir, 'private/open'),
      c: 'door',
    })) {
      const answer = await rig.request('PUT', `/execs/${id}`, { command: 'cat secret', cwd });
      expect(answer.json()).toMatchObject({
        code: 'cwd_not_found',
        field: 'cwd',
        detail: expect.stringContaining(cwd),
      });
    }
    expect((await rig.run('open', { command: 'pwd', cwd: '/usr' })).stdout).toBe('/usr\n');
  });
});

describe.skipIf(!canNest)('user code in namespaces of its own (needs user namespaces)', () => {
  test('it is a user without power, with its environment, its folder and its true results', async () => {
    await using rig = await startNested();
    const { stdout } = await rig.run('id', {
      command: 'id -u; grep CapEff /proc/self/status; pwd; echo "$A"; echo x > f',
      env: { A: "it's $HOME", 'odd-name': '1', LD_PRELOAD: '/nowhere.so' },
    });
    expect(stdout).toBe(`1000\nCapEff:\t0000000000000000\n${rig.workspace}\nit's $HOME\n`);
    expect((await rig.run('code', 'exit 7')).end?.result).toEqual({ kind: 'exited', code: 7 });
    expect((await rig.run('signal', 'kill -KILL $$')).end?.result).toEqual({
      kind: 'signaled',
      signal: 'SIGKILL',
    });
    const slow = await rig.run('slow', { command: 'sleep 1000 & sleep 1000', timeout_ms: 200 });
    expect(slow.end?.result.kind).toBe('timed_out');
    expect((await rig.run('left', 'pgrep -x sleep -a | grep -v infinity; true')).stdout).toBe('');
    const codeOf = async (id: string, spec: unknown) =>
      (await rig.request('PUT', `/execs/${id}`, spec)).json().code;
    expect(await codeOf('none', { command: ['no-such-program'] })).toBe('command_not_found');
    expect(await codeOf('cwd', { command: 'true', cwd: 'nowhere' })).toBe('cwd_not_found');
    expect((await rig.run('unshare', 'unshare --user true')).stderr).toContain('No space left on device');
    // User code may end its own side; the next exec gets another one.
    await rig.run('suicide', 'kill -KILL -1');
    expect((await rig.run('reborn', 'unshare --user true; id -u')).stdout).toBe('1000\n');
    expect((await rig.request('GET', '/files?path=f')).body.toString()).toBe('x\n');
  });

  test("a caller's PATH and LD_PRELOAD reach the command, not what leads to it", async () => {
    await using rig = await startNested();
    await rig.run(
      'plant',
      'mkdir bin; for n in nsenter setpriv sh env; do printf "#!/bin/bash\\nid -u > %s/ran\\n" "$PWD" > bin/$n; chmod 755 bin/$n; done',
    );
    const planted = join(rig.workspace, 'bin');
    const { stdout } = await rig.run('path', {
      command: ['/bin/sh', '-c', 'echo $PATH $LD_PRELOAD; ls'],
      env: { PATH: `${planted}:/usr/bin:/bin`, LD_PRELOAD: '/x.so' },
    });
    expect(stdout).toBe(`${planted}:/usr/bin:/bin /x.so\nbin\n`);
  });

  test('it can neither see, read, signal nor debug the agent', async () => {
    await using rig = await startNested();
    // The number that the agent has in the machine; on this side nobody has it, and 1 is the user's own init.
    await expectSafe(rig, '2');
    expect(
      (await rig.run('ps', 'ls /proc | grep -c "^[0-9]"; cat /proc/[0-9]*/cmdline | grep -ac "main[.]ts"'))
        .stdout,
    ).toMatch(/^\d\n0\n$/);
  });
});
