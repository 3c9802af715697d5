import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as pulumiSdk from '@pulumi/pulumi';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { readStackConfig } from '../../infra/config.ts';
import { dockerEngine, judgeDockerFailure } from '../../infra/doctor/docker.ts';
import { lookAt, ok } from '../../infra/doctor/finding.ts';
import { judgeNode, nodeOnPath } from '../../infra/doctor/node.ts';
import { installedPackages } from '../../infra/doctor/packages.ts';
import { run, shellPath } from '../../infra/doctor/program.ts';
import {
  judgePlugin,
  judgeVersion,
  pulumiBackend,
  pulumiIn,
  pulumiPlugins,
  pulumiVersion,
} from '../../infra/doctor/pulumi.ts';
import { registryLogIn } from '../../infra/doctor/registry.ts';
import { hide } from '../../infra/doctor/secrecy.ts';
import { findStack, judgeSettings, REQUIRED, readSettings } from '../../infra/doctor/stack.ts';

/** Of the computer that the doctor runs on: real programs, files, sockets and servers. */
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mobvibe-doctor-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const signal = () => AbortSignal.timeout(30_000);
async function file(path: string, text: string): Promise<string> {
  const full = join(folder, path);
  await mkdir(dirname(full), { recursive: true });
  await writeFile(full, text);
  return full;
}
/** A PATH on which this is the only program. */
async function onPath(name: string, script: string): Promise<NodeJS.ProcessEnv> {
  await chmod(await file(`bin/${name}`, `#!/bin/sh\n${script}\n`), 0o755);
  return { PATH: join(folder, 'bin') };
}
/** A Pulumi that answers a few commands, each by its first words. */
async function pulumiThat(answers: Record<string, string>) {
  const cases = Object.entries(answers).map(([words, script]) => `"${words}"*) ${script};;`);
  const env = await onPath(
    'pulumi',
    `case "$*" in\n${cases.join('\n')}\n*) echo "error: $*" >&2; exit 9;;\nesac`,
  );
  return pulumiIn({ env, cwd: folder });
}

describe('a look', () => {
  test('that takes too long ends, and what it ran with it', async () => {
    const env = await onPath('slow', `echo $$ > ${folder}/pid; exec /bin/sleep 600`);
    const look = (given: AbortSignal) =>
      run('slow', [], { env, cwd: folder, signal: given }).then(() => ok('never'));
    const found = await lookAt({ check: 'slow', look, mend: 'hurry' }, 300);
    expect(found).toEqual([
      { check: 'slow', status: 'wrong', says: 'no answer within 0.3 s', mend: 'hurry' },
    ]);
    const pid = Number(await import('node:fs/promises').then((fs) => fs.readFile(`${folder}/pid`, 'utf8')));
    await expect.poll(() => isAlive(pid)).toBe(false);
  });
  test('that fails says why', async () => {
    const look = () => Promise.reject(new Error('the disk is on fire'));
    expect(await lookAt({ check: 'x', look, mend: 'water' }, 5_000)).toEqual([
      { check: 'x', status: 'wrong', says: 'the disk is on fire', mend: 'water' },
    ]);
  });
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe('Node', () => {
  const look = (env: NodeJS.ProcessEnv) => nodeOnPath({ env, cwd: folder, signal: signal() });
  test('of the PATH', async () => {
    const env = { PATH: dirname(process.execPath) };
    expect(await look(env)).toEqual(ok(`${process.version} on the PATH`));
  });
  test('too old, or none', async () => {
    expect(await look(await onPath('node', 'echo v22.11.0'))).toMatchObject({
      status: 'wrong',
      says: 'v22.11.0 on the PATH, and the program needs 24 or later',
      mend: expect.stringContaining('npm ci'),
    });
    expect(await look({ PATH: folder })).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/no node/),
    });
    expect(judgeNode('v26.0.0').status).toBe('ok');
  });
  test('what npx puts before the PATH is no part of it', () => {
    const PATH = '/p/node_modules/.bin:/npm/run-script/lib/node-gyp-bin:/usr/bin:/bin';
    expect(shellPath({ PATH, npm_command: 'exec' })).toBe('/usr/bin:/bin');
    expect(shellPath({ PATH })).toBe(PATH);
    expect(shellPath({ PATH: '/usr/bin', npm_command: 'exec' })).toBe('/usr/bin');
  });
});

describe('packages', () => {
  const lock = {
    '': { version: '0.1.0' },
    'node_modules/a': { version: '1.0.0' },
    'node_modules/a/node_modules/@s/b': { version: '2.0.0' },
    'node_modules/other-platform': { version: '3.0.0', optional: true },
    'node_modules/for-developers': { version: '4.0.0', dev: true },
  };
  const install = async (versions: Record<string, string>) => {
    await file('package-lock.json', JSON.stringify({ packages: lock }));
    for (const [path, version] of Object.entries(versions))
      await file(`${path}/package.json`, JSON.stringify({ version }));
    return installedPackages(folder);
  };
  test('as the lockfile says', async () => {
    const versions = { 'node_modules/a': '1.0.0', 'node_modules/a/node_modules/@s/b': 'v2.0.0' };
    expect(await install(versions)).toEqual(ok('4 packages as the lockfile says'));
  });
  test('another version, and a missing one', async () => {
    expect(await install({ 'node_modules/a': '1.0.1', 'node_modules/for-developers': '3.9.9' })).toEqual({
      status: 'wrong',
      says: 'not as the lockfile says: node_modules/a is 1.0.1, not 1.0.0; node_modules/a/node_modules/@s/b is missing, not 2.0.0; node_modules/for-developers is 3.9.9, not 4.0.0',
      mend: 'npm ci',
    });
  });
});

describe('Pulumi', () => {
  test('none', async () => {
    const pulumi = pulumiIn({ env: { PATH: folder }, cwd: folder });
    expect(await pulumiVersion(pulumi, signal())).toMatchObject({
      status: 'wrong',
      says: 'no pulumi on the PATH',
      mend: 'curl -fsSL https://get.pulumi.com | sh',
    });
  });
  test('its version', async () => {
    const pulumi = await pulumiThat({ version: 'echo v3.270.0' });
    expect(await pulumiVersion(pulumi, signal())).toEqual(ok('v3.270.0'));
  });
  test.each([
    ['v3.259.0', 'ok'],
    ['v3.260.0-dev.0', 'ok'],
    ['v4.0.0', 'ok'],
    ['v3.258.9', 'warning'],
    ['v2.300.0', 'warning'],
    ['pulumi', 'warning'],
  ])('%s: %s', (version, status) => expect(judgeVersion(version).status).toBe(status));

  const wanted = { name: 'command', version: '1.2.1' };
  test('plugins that are installed, on the PATH, or not there', async () => {
    const list = JSON.stringify([{ name: 'command', kind: 'resource', version: '1.2.1' }]);
    const pulumi = await pulumiThat({ 'plugin ls': `echo '${list}'` });
    const docker = { name: 'docker', version: '5.2.0' };
    const env = { PATH: folder };
    expect(await pulumiPlugins(pulumi, [wanted, docker], env, signal())).toEqual([
      ok('command 1.2.1'),
      {
        status: 'warning',
        says: 'docker 5.2.0 is not installed; the first up fetches it',
        mend: 'pulumi plugin install resource docker 5.2.0',
      },
    ]);
    await file('pulumi-resource-docker', '');
    expect((await pulumiPlugins(pulumi, [docker], env, signal()))[0]).toMatchObject({ status: 'ok' });
  });
  test('another version is none, and where Pulumi fetches nothing that is wrong', () => {
    const installed = [{ name: 'command', version: '1.1.0' }];
    expect(judgePlugin(wanted, installed, { onPath: false, fetched: true }).status).toBe('warning');
    expect(judgePlugin(wanted, installed, { onPath: false, fetched: false })).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION/),
    });
  });
  test('a backend', async () => {
    const pulumi = await pulumiThat({ whoami: `echo '{"user":"ada","url":"s3://states"}'` });
    expect(await pulumiBackend(pulumi, signal())).toEqual(ok('ada at s3://states'));
  });
  test('no backend', async () => {
    const pulumi = await pulumiThat({ whoami: 'echo "error: PULUMI_ACCESS_TOKEN must be set" >&2; exit 3' });
    expect(await pulumiBackend(pulumi, signal())).toEqual({
      status: 'wrong',
      says: 'not logged in to a backend: PULUMI_ACCESS_TOKEN must be set',
      mend: 'pulumi login',
    });
  });
});

describe('the stack', () => {
  const none = 'echo "error: no stack selected; please use something" >&2; exit 1';
  test('is found, or there is one to select, or one has to be made', async () => {
    const there = await pulumiThat({ 'stack --show-name': 'echo prod' });
    expect(await findStack(there, undefined, signal())).toEqual({ name: 'prod', verdict: ok('prod') });
    const other = await pulumiThat({ 'stack --show-name': none, 'stack ls': `echo '[{"name":"live"}]'` });
    expect(await findStack(other, undefined, signal())).toEqual({
      verdict: { status: 'wrong', says: 'no stack selected', mend: 'pulumi stack select live' },
    });
    expect((await findStack(other, 'pr-7', signal())).verdict.mend).toBe('pulumi stack init pr-7');
    const empty = await pulumiThat({ 'stack --show-name': none, 'stack ls': 'echo "[]"' });
    expect((await findStack(empty, undefined, signal())).verdict.mend).toBe('pulumi stack init prod');
  });

  const json = JSON.stringify({
    'mobvibe:flyOrg': { value: 'acme', secret: false },
    'other:flyOrg': { value: 'nobody', secret: false },
    'mobvibe:supabaseDbUrl': { secret: true },
  });
  test('its settings, when its secrets can’t be decrypted', async () => {
    const pulumi = await pulumiThat({
      'config --json --stack prod --show-secrets': 'echo "error: incorrect passphrase" >&2; exit 1',
      'config --json --stack prod': `echo '${json}'`,
    });
    const { settings, verdict } = await readSettings(pulumi, { project: 'mobvibe', stack: 'prod' }, signal());
    expect(verdict).toEqual({
      status: 'wrong',
      says: "the secrets of prod can't be decrypted: incorrect passphrase",
      mend: 'export PULUMI_CONFIG_PASSPHRASE_FILE=FILE',
    });
    expect(Object.fromEntries(settings!)).toEqual({
      flyOrg: { value: 'acme', secret: false },
      supabaseDbUrl: { value: undefined, secret: true },
    });
  });

  test('no settings, when they can’t be read at all', async () => {
    const pulumi = await pulumiThat({ config: 'echo "error: the backend is gone" >&2; exit 1' });
    const read = await readSettings(pulumi, { project: 'mobvibe', stack: 'prod' }, signal());
    expect(read).toEqual({
      verdict: {
        status: 'wrong',
        says: "the secrets of prod can't be decrypted: the backend is gone",
        mend: 'pulumi config --stack prod',
      },
    });
  });

  const good = {
    flyOrg: { value: 'acme', secret: false },
    supabaseUrl: { value: 'https://x.supabase.co', secret: false },
    supabaseServiceRoleKey: { value: 'key', secret: true },
    supabaseDbUrl: { value: undefined, secret: true },
  };
  const judge = (settings: object) =>
    judgeSettings(new Map(Object.entries({ ...good, ...settings })), 'prod');
  test('that are right', () => expect(judge({})).toEqual([ok('4 set')]));
  test('that are missing, all of them, as the program needs them', () => {
    expect(judgeSettings(new Map(), 'prod')).toEqual([
      { status: 'wrong', says: 'flyOrg is not set', mend: 'pulumi config set flyOrg VALUE --stack prod' },
      {
        status: 'wrong',
        says: 'supabaseUrl is not set',
        mend: 'pulumi config set supabaseUrl VALUE --stack prod',
      },
      {
        status: 'wrong',
        says: 'supabaseServiceRoleKey is not set',
        mend: 'pulumi config set --secret supabaseServiceRoleKey --stack prod',
      },
      {
        status: 'wrong',
        says: 'supabaseDbUrl is not set',
        mend: 'pulumi config set --secret supabaseDbUrl --stack prod',
      },
    ]);
    for (const missing of REQUIRED) {
      const others = Object.entries(good).filter(([key]) => key !== missing);
      pulumiSdk.runtime.setAllConfig(
        Object.fromEntries(others.map(([key, { value }]) => [`m:${key}`, value ?? 'x'])),
      );
      expect(() => readStackConfig(new pulumiSdk.Config('m')), missing).toThrow('is not set');
    }
  });
  test('with a value that the program would refuse', () => {
    expect(judge({ sandboxMemoryMb: { value: '1000', secret: false } })).toEqual([
      {
        status: 'wrong',
        says: 'sandboxMemoryMb is "1000": a whole number from 256 to 32768, a multiple of 256',
        mend: 'pulumi config set sandboxMemoryMb VALUE --stack prod',
      },
    ]);
  });
  test('with a secret in the clear, and with one that nobody could look at', () => {
    expect(judge({ supabaseDbUrl: { value: 'postgres://u:hush@h/d', secret: false } })).toEqual([
      {
        status: 'wrong',
        says: "supabaseDbUrl is kept in the clear in the stack's file",
        mend: 'pulumi config set --secret supabaseDbUrl --stack prod',
      },
    ]);
    expect(judge({ region: { value: undefined, secret: true } })).toMatchObject([{ status: 'skipped' }]);
  });
});

/** Answers every request in the same way; what was asked is kept. */
async function server(status: number, headers = {}, at: { path?: string; body?: string } = {}) {
  const asked: { url?: string; authorization?: string }[] = [];
  const http = createServer((request, response) => {
    asked.push({ url: request.url!, authorization: request.headers.authorization! });
    response.writeHead(status, headers).end(at.body ?? '');
  });
  await new Promise<void>((resolve) => http.listen(at.path ?? 0, () => resolve()));
  onTestFinished(() => void http.close());
  return { host: `127.0.0.1:${(http.address() as AddressInfo).port}`, asked };
}

describe('Docker', () => {
  afterEach(() => vi.unstubAllEnvs());
  test('an engine that answers', async () => {
    const path = join(folder, 'docker.sock');
    const version = { Version: '28.2.2', ApiVersion: '1.50', Os: 'linux', Arch: 'arm64' };
    const { asked } = await server(
      200,
      { 'content-type': 'application/json' },
      { path, body: JSON.stringify(version) },
    );
    vi.stubEnv('DOCKER_HOST', `unix://${path}`);
    expect(await dockerEngine()).toEqual(ok('engine 28.2.2, API 1.50, linux/arm64'));
    expect(asked).toMatchObject([{ url: '/version' }]);
  });
  test('none', async () => {
    vi.stubEnv('DOCKER_HOST', `unix://${folder}/none.sock`);
    const verdict = await dockerEngine('linux');
    expect(verdict).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/ENOENT/),
      mend: 'sudo systemctl start docker',
    });
    expect((await dockerEngine('darwin')).mend).toBe('open -a Docker');
  });
  test('one that this user may not speak to', () => {
    const error = Object.assign(new Error('connect EACCES'), { code: 'EACCES' });
    expect(judgeDockerFailure(error, 'linux').mend).toContain('usermod -aG docker');
  });
});

describe('the registry', () => {
  const look = async (host: string, config: object | string) => {
    await file('config.json', typeof config === 'string' ? config : JSON.stringify(config));
    return registryLogIn(host, { DOCKER_CONFIG: folder }, signal());
  };
  const auth = Buffer.from('x:canary').toString('base64');

  test('takes the log-in that Docker keeps', async () => {
    const { host, asked } = await server(200);
    expect(await look(host, { auths: { [host]: { auth } } })).toEqual(ok(`${host} takes Docker's log-in`));
    expect(asked).toEqual([{ url: '/v2/', authorization: `Basic ${auth}` }]);
  });
  test('does not take it any more', async () => {
    const { host } = await server(401, { 'www-authenticate': 'Basic realm="x"' });
    const verdict = await look(host, { auths: { [host]: { auth } } });
    expect(verdict).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/HTTP 401/),
      mend: `docker login ${host}`,
    });
    expect(JSON.stringify(verdict)).not.toContain(auth);
  });
  test('wants a token that is fetched elsewhere', async () => {
    const { host } = await server(401, { 'www-authenticate': 'Bearer realm="https://auth.example"' });
    expect(await look(host, { auths: { [host]: { auth } } })).toMatchObject({ status: 'warning' });
    expect(await look(host, {})).toMatchObject({
      status: 'wrong',
      says: `Docker is not logged in to ${host}`,
    });
  });
  test('asks for none', async () => {
    const { host, asked } = await server(200);
    expect(await look(host, {})).toEqual(ok(`${host} asks for no log-in`));
    expect(asked[0]!.authorization).toBeUndefined();
  });
  test('is broken, or not there', async () => {
    const { host } = await server(500);
    expect(await look(host, {})).toMatchObject({ status: 'wrong', says: `${host} answers with HTTP 500` });
    expect(await look('127.0.0.1:1', {})).toMatchObject({
      status: 'wrong',
      says: expect.stringMatching(/can't be reached/),
    });
  });
  test('has a log-in in a helper, for it or for all', async () => {
    const helped = ok('h.example: Docker asks docker-credential-pass; that was not tried');
    expect(await look('h.example', { credHelpers: { 'h.example': 'pass' } })).toEqual(helped);
    expect(await look('h.example', { auths: { 'h.example': {} }, credsStore: 'pass' })).toEqual(helped);
  });
  test('Fly’s is logged in to by flyctl; a store for all says nothing of it', async () => {
    const { judgeAnswer, logInOf } = await import('../../infra/doctor/registry.ts');
    const none = logInOf({ auths: {}, credsStore: 'desktop' }, 'registry.fly.io');
    expect(none).toEqual({ kind: 'none' });
    expect(judgeAnswer('registry.fly.io', none, 401, '').mend).toBe('fly auth docker');
  });
  test('a file that is no JSON is named', async () => {
    await expect(look('h.example', '{')).rejects.toThrow(`${folder}/config.json can't be read as JSON`);
    await rm(join(folder, 'config.json'));
    const { host } = await server(200);
    expect((await registryLogIn(host, { DOCKER_CONFIG: folder }, signal())).status).toBe('ok');
  });
});

test('what others said is shown without secrets', () => {
  const said = 'no postgres://me:pass@db/x, key canary-1 of s3://bucket, canary-1';
  expect(hide(said, ['canary-1', undefined, '', 'me'])).toBe(
    'no postgres://[hidden]@db/x, key [hidden] of s3://bucket, [hidden]',
  );
});
