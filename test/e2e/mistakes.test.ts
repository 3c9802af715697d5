import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Session } from '../../client/index.ts';
import { localStack, type TestStack } from './local-stack.ts';

let up: TestStack;
let session: Session;
beforeAll(async () => {
  up = await localStack();
  session = await up.mobvibe.sessions.create({ id: 'mistakes' });
});
afterAll(() => up?.[Symbol.asyncDispose]());

/** One raw request, past the SDK's own checks. */
async function ask(method: string, path: string, body?: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${up.stack.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${up.stack.apiKey}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.status, problem: (await response.json()) as Record<string, unknown> };
}

describe('a mistake is answered with its code, and nothing is lost', () => {
  test('an unknown session', async () => {
    await expect(up.mobvibe.sessions.get('nobody')).rejects.toMatchObject({
      code: 'session_not_found',
      kind: 'mistake',
    });
    expect(await ask('PUT', '/v1/sessions/nobody/execs/e', '{"command":"true"}')).toMatchObject({
      status: 404,
      problem: { code: 'session_not_found' },
    });
  });

  test('the same session again is the same session, with other settings a conflict', async () => {
    const again = await up.mobvibe.sessions.create({ id: 'mistakes' });
    expect(again.info.sandbox_id).toBe(session.info.sandbox_id);
    await expect(up.mobvibe.sessions.create({ id: 'mistakes', memoryMb: 1024 })).rejects.toMatchObject({
      code: 'session_conflict',
    });
  });

  test.each([['""'], ['[]'], ['[""]'], ['"a\\u0000b"'], ['["echo","a\\u0000b"]']])(
    'the command %s',
    async (command) => {
      const { status, problem } = await ask(
        'PUT',
        '/v1/sessions/mistakes/execs/bad',
        `{"command":${command}}`,
      );
      expect({ status, code: problem.code }).toEqual({ status: 400, code: 'invalid_command' });
    },
  );

  test('a program that does not exist, and a working directory that does not', async () => {
    await expect(session.exec(['no-such-program-here'])).rejects.toMatchObject({ code: 'command_not_found' });
    await expect(session.exec('true', { cwd: '/workspace/no/such' })).rejects.toMatchObject({
      code: 'cwd_not_found',
    });
  });

  test('a body that is not JSON', async () => {
    expect(await ask('POST', '/v1/sessions', '{"id":')).toMatchObject({
      status: 400,
      problem: { code: 'invalid_json' },
    });
  });

  test.each(['../etc/passwd', '/etc/passwd', 'a/../../etc/passwd', '/workspace/../etc/passwd'])(
    'the path %s',
    async (path) => {
      await expect(session.files.read(path)).rejects.toMatchObject({ code: 'path_outside', status: 403 });
      await expect(session.files.write(path, 'x')).rejects.toMatchObject({ code: 'path_outside' });
    },
  );

  test('a symlink that leads out, made by the user’s own code', async () => {
    await session.exec('ln -sfn /etc out && ln -sfn / root');
    await expect(session.files.read('out/hostname')).rejects.toMatchObject({ code: 'path_outside' });
    await expect(session.files.write('root/tmp/x', 'x')).rejects.toMatchObject({ code: 'path_outside' });
    expect((await session.exec('ls /tmp/x')).exitCode).not.toBe(0);
  });

  test.each(['UPPER', 'a b', 'ü', '-a', 'a-', 'x'.repeat(49), 'a%00b'])('the session id %j', async (id) => {
    const { status, problem } = await ask(
      'GET',
      `/v1/sessions/${id.includes('%') ? id : encodeURIComponent(id)}`,
    );
    expect({ status, code: problem.code }).toEqual({ status: 400, code: 'invalid_id' });
  });

  test('no key, and a wrong one', async () => {
    for (const authorization of ['', 'Bearer mvk_0000000000000000000000', 'Basic bXZr']) {
      const { status, problem } = await ask('GET', '/v1/sessions', undefined, { authorization });
      expect({ status, code: problem.code }).toEqual({ status: 401, code: 'unauthorized' });
    }
  });

  test('a session that is stopped', async () => {
    const stopped = await up.mobvibe.sessions.create({ id: 'was-stopped' });
    await stopped.stop();
    await expect(stopped.exec('true')).rejects.toMatchObject({ code: 'session_not_open' });
    await expect(stopped.files.read('x')).rejects.toMatchObject({ code: 'session_not_open' });
    expect(await stopped.stop()).toMatchObject({ status: 'stopped' });
  });

  test('the session still works after all of this', async () => {
    expect(await session.exec('echo alive')).toMatchObject({ stdout: 'alive\n', exitCode: 0 });
  });
});
