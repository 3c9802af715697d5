import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Session } from '../../client/index.ts';
import { localStack, type TestStack } from './local-stack.ts';

let up: TestStack;
let first: Session;
let second: Session;
beforeAll(async () => {
  up = await localStack();
  [first, second] = await Promise.all([
    up.mobvibe.sessions.create({ id: 'first' }),
    up.mobvibe.sessions.create({ id: 'second' }),
  ]);
});
afterAll(() => up?.[Symbol.asyncDispose]());

describe('what user code can reach', () => {
  test('not another session’s files or processes', async () => {
    await first.files.write('secret.txt', 'of the first');
    const sleeper = await first.execs.start(['sleep', '300.25']);
    const { stdout } = await second.exec(
      'ls -A /workspace /tmp /home; find / -name "secret*xt" 2>/dev/null; cat /proc/*/cmdline 2>/dev/null | tr "\\0" " "',
    );
    expect(stdout).not.toContain('secret.txt');
    expect(stdout).not.toContain('300.25');
    await sleeper.signal('SIGKILL');
  });

  test('not the host’s', async () => {
    const { stdout } = await first.exec(
      `ls ${up.stateDir} ${process.cwd()} /var/lib/postgresql 2>&1; ls -A /root`,
    );
    expect(stdout).not.toMatch(/supabase|package\.json|secrets\.json/);
  });

  test('not the sockets of the agent, from a working directory among them', async () => {
    for (const cwd of ['/root/mobvibe', '/proc/1/root/root/mobvibe', '/var/lib/mobvibe']) {
      const seen = await first.exec('ls', { cwd }).then(
        ({ stdout }) => stdout,
        ({ code }) => code,
      );
      expect(['cwd_not_found', '']).toContain(seen);
    }
  });

  test('not a way to become another user', async () => {
    const { stdout } = await first.exec(
      'id -u; grep -E "^(NoNewPrivs|CapEff|CapPrm|CapBnd)" /proc/self/status',
    );
    expect(stdout).toMatch(/^1000\n/);
    expect(stdout).toMatch(/NoNewPrivs:\s*1/);
    for (const set of ['CapEff', 'CapPrm']) expect(stdout).toMatch(new RegExp(`${set}:\\s*0000000000000000`));
  });

  test('not the agent’s memory, environment, token or life', async () => {
    const attack = `
      for p in /proc/[0-9]*; do
        n=\${p#/proc/}
        cat $p/environ 2>/dev/null | tr '\\0' '\\n' | grep -a MOBVIBE_ && echo "READ ENVIRON of $n"
        [ "$(cat $p/comm 2>/dev/null)" = node ] && { kill -9 $n 2>/dev/null && echo "KILLED $n"; kill -USR1 $n 2>/dev/null && echo "SIGNALED $n"; }
        head -c 1 $p/mem 2>/dev/null && echo "READ MEM of $n"
        ls $p/fd 2>/dev/null | grep -q . && [ "$(stat -c %u $p)" != "$(id -u)" ] && echo "READ FDS of $n"
      done
      env | grep MOBVIBE_ && echo "TOKEN IN ENV"
      ls /run/mobvibe 2>/dev/null && echo "SOCKETS SEEN"
      true`;
    const { stdout } = await first.exec(attack);
    expect(stdout).toBe('');
    expect(await first.exec('echo still here')).toMatchObject({ stdout: 'still here\n' });
  });

  test('no network but its own loopback', async () => {
    const port = new URL(up.stack.url).port;
    const probe = `node -e "require('net').connect(${port},'127.0.0.1').on('connect',()=>console.log('REACHED')).on('error',e=>console.log(e.code))"`;
    expect((await first.exec(probe)).stdout).toBe('ECONNREFUSED\n');
    expect((await first.exec('cat /proc/net/dev | grep -c :')).stdout).toBe('1\n');
  });

  test('not the read-only parts of its own computer', async () => {
    const { stdout } = await first.exec(
      'touch /usr/x /etc/x /opt/agent/x /x 2>&1 | grep -vc "denied\\|Read-only"',
    );
    expect(stdout).toBe('0\n');
  });
});
