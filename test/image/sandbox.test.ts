import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { extract, type Header } from 'tar-stream';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeControllerContext, writeSandboxContext } from '../../image/bundle.ts';
import { Rig, TOKEN } from '../agent/rig.ts';
import { type Base, findBase } from './base-image.ts';
import { docker, engineMissing, runContainer } from './docker.ts';

const BUILD_LIMIT_MS = 300_000;
/** As user code is started, but without the agent. */
const AS_USER = ['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups'];

const scratch = mkdtempSync(join(tmpdir(), 'image-test-'));
let missing = engineMissing();
let base: Base;

beforeAll(async () => {
  if (missing !== undefined) return;
  const found = await findBase(scratch);
  if (typeof found === 'string') missing = found;
  else base = found;
}, BUILD_LIMIT_MS);
beforeEach(({ skip }) => skip(missing !== undefined, missing));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Gives the image's id. It gets no name: what is not used again is the engine's to remove. */
function build(context: string, ...options: string[]): Promise<string> {
  return docker(['build', '--quiet', '--build-arg', `BASE=${base.ref}`, ...options, context]);
}

describe('the sandbox image, target base', () => {
  let image: string;

  beforeAll(async () => {
    if (missing !== undefined) return;
    const context = join(scratch, 'sandbox');
    writeSandboxContext(context, base.node === undefined ? {} : { node: base.node });
    image = await build(context, '--target', 'base');
  }, BUILD_LIMIT_MS);

  test('has no file that gives rights, no cache and no papers, and its folders are whose they should be', async () => {
    const files = await contents(image);
    const names = [...files.keys()];
    const withRights = [...files.values()].filter(
      ({ type, mode, pax }) =>
        type === 'file' &&
        ((mode! & 0o6000) !== 0 || Object.hasOwn(pax ?? {}, 'SCHILY.xattr.security.capability')),
    );
    expect(withRights.map(({ name }) => name)).toEqual([]);
    const unwanted =
      /^(var\/lib\/apt\/lists|var\/cache|var\/log|tmp|root\/\.(npm|cache)|usr\/share\/(doc|man|locale))\/./;
    expect(names.filter((name) => unwanted.test(name))).toEqual([]);

    const owner = (name: string) => {
      const { uid, gid, mode } = files.get(name)!;
      return `${uid}:${gid} ${(mode! & 0o7777).toString(8)}`;
    };
    expect(owner('workspace/')).toBe('1000:1000 755');
    expect(owner('home/user/')).toBe('1000:1000 755');
    expect(owner('var/lib/mobvibe/')).toBe('0:0 700');
    expect(owner('opt/agent/agent.js')).toBe('0:0 644');
    expect(owner('tmp/')).toBe('0:0 1777');
    // Nothing else is the user's: it could change what root runs.
    const theirs = [...files.values()].filter(({ uid, gid }) => uid === 1000 || gid === 1000);
    expect(theirs.map(({ name }) => name).sort()).toEqual(['home/user/', 'workspace/']);
  });

  test('says how it is run, and holds no secret', async () => {
    const config = JSON.parse(await docker(['image', 'inspect', '--format', '{{json .Config}}', image]));
    expect(config.Entrypoint).toEqual(['/bin/sh', '/opt/init/start.sh']);
    expect(config.Cmd).toEqual(['node', '--disable-sigusr1', '/opt/agent/agent.js']);
    expect(config.WorkingDir).toBe('/workspace');
    expect(config.Env.map((entry: string) => entry.split('=')[0]).sort()).toEqual([
      'LANG',
      'MOBVIBE_AGENT_STATE_DIR',
      'MOBVIBE_AGENT_USER',
      'PATH',
    ]);
  });

  test('its agent dials and runs user code as uid 1000, with git, curl and Node', async () => {
    await using machine = await Machine.start(image);
    expect(machine.rig.authorizations).toEqual([`Bearer ${TOKEN}`]);
    const { stdout, stderr } = await machine.rig.run(
      'who',
      'id -u; id -g; pwd; echo $HOME; touch here && git init -q app && cd app && touch a && git add a && ' +
        'git -c user.name=a -c user.email=a@b.test commit -q -m first && git log --format=%s; ' +
        'curl --version | head -c 4; echo; node -p process.versions.node',
    );
    expect(stderr).toBe('');
    expect(stdout.trim().split('\n')).toEqual([
      '1000',
      '1000',
      '/workspace',
      '/home/user',
      'first',
      'curl',
      expect.stringMatching(/^24\./),
    ]);
  });

  test("user code reads nothing of the agent's: neither memory nor environment nor state", async () => {
    await using machine = await Machine.start(image);
    const { stdout } = await machine.rig.run(
      'spy',
      'for pid in $(ls /proc | grep "^[0-9]*$"); do ' +
        '  if tr "\\0" " " </proc/$pid/cmdline | grep -qE "^(/bin/sh /opt/init/init.sh )?node --disable-sigusr1 /opt/agent/agent.js"; then ' +
        '    echo found; ' +
        '    for file in environ mem maps; do head -c 1 /proc/$pid/$file >/dev/null 2>&1 && echo "$pid $file"; done; ' +
        '    ls /proc/$pid/fd >/dev/null 2>&1 && echo "$pid fd"; ' +
        '    kill -0 $pid 2>/dev/null && echo "$pid signal"; ' +
        '  fi; ' +
        'done; ls /var/lib/mobvibe 2>/dev/null && echo state; env | grep MOBVIBE; ' +
        `grep -rqs "${TOKEN.slice(9)}" /proc/self/environ && echo token; echo end`,
    );
    // The command lines of init and of its watch name the agent, too.
    expect(stdout.trim().split('\n')).toEqual(['found', 'found', 'found', 'end']);
  });

  test('SIGTERM to pid 1 ends the agent, with code 0', async () => {
    await using machine = await Machine.start(image);
    const ended = once(machine.client, 'exit');
    await docker(['kill', '--signal', 'TERM', machine.name]);
    expect((await ended)[0]).toBe(0);
  });

  describe("Fly's socket /.fly/api", () => {
    const curl = [...AS_USER, 'curl', '-s', '--unix-socket', '/.fly/api', 'http://flaps/v1/tokens/oidc'];
    const CONNECTED_TO_NOTHING = 7;

    test('can be reached by user code before, else the tests below would prove nothing', async () => {
      await using fly = await FlySocket.open();
      const [program, ...args] = curl;
      const answer = await runContainer(['-v', `${fly.dir}:/.fly`, '--entrypoint', program!, image, ...args]);
      expect(answer).toMatchObject({ code: 0, stdout: 'a signed token' });
    });

    test('is gone when user code starts', async () => {
      await using fly = await FlySocket.open();
      const answer = await runContainer(['-v', `${fly.dir}:/.fly`, image, ...curl]);
      expect(answer).toEqual({ code: CONNECTED_TO_NOTHING, stdout: '', stderr: '' });
      expect(existsSync(fly.path)).toBe(false);
      expect(fly.calls).toBe(0);
    });

    test('is closed to user code where it can be neither removed nor unmounted', async () => {
      await using fly = await FlySocket.open();
      const answer = await runContainer(['-v', `${fly.path}:/.fly/api`, image, ...curl]);
      expect(answer.code).toBe(CONNECTED_TO_NOTHING);
      expect(fly.calls).toBe(0);
    });

    test('that cannot be closed at all keeps the machine from starting', async () => {
      await using fly = await FlySocket.open();
      const answer = await runContainer(['-v', `${fly.dir}:/.fly:ro`, image, 'echo', 'started']);
      expect(answer).toEqual({
        code: 78,
        stdout: '',
        stderr: 'start.sh: user code could reach /.fly/api: not started',
      });
    });
  });
});

test.each([
  ['controller.js', 'FLY_API_TOKEN is not set'],
  ['egress.js', 'MOBVIBE_'],
])(
  "the controller's image runs %s as an ordinary user",
  async (file, complaint) => {
    const context = join(scratch, 'controller');
    writeControllerContext(context);
    // The base of the tests may have no Node: then the sandbox image's serves.
    const image = await build(
      context,
      ...(base.node === undefined ? [] : ['--build-arg', `BASE=${await nodeImage()}`]),
    );
    expect(await runContainer(['--entrypoint', 'id', image, '-u'])).toMatchObject({
      code: 0,
      stdout: '1000',
    });
    const answer = await runContainer(['--entrypoint', 'node', image, `/app/${file}`]);
    expect(answer.code).toBe(1);
    expect(answer.stderr).toContain(complaint);
  },
  BUILD_LIMIT_MS,
);

function nodeImage(): Promise<string> {
  return build(join(scratch, 'sandbox'), '--target', 'system');
}

/** A container with a real agent that has dialed our end of the link. */
class Machine implements AsyncDisposable {
  readonly name = `mobvibe-test-${process.pid}-${Date.now()}`;
  readonly rig: Rig;
  client!: ChildProcess;

  private constructor(rig: Rig) {
    this.rig = rig;
  }

  static async start(image: string): Promise<Machine> {
    const machine = new Machine(await Rig.idle());
    const { rig, name } = machine;
    const env = {
      MOBVIBE_AGENT_DIAL_URL: rig.url,
      MOBVIBE_AGENT_TOKEN: TOKEN,
      MOBVIBE_SANDBOX: 's-test-1',
    };
    const names = Object.keys(env).flatMap((key) => ['-e', key]);
    const sockets = join(rig.dir, 'ctl');
    machine.client = spawn(
      'docker',
      ['run', '--rm', '--name', name, '--network', 'none', '-v', `${sockets}:${sockets}`, ...names, image],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } },
    );
    let log = '';
    machine.client.stderr!.on('data', (text) => {
      log += text;
    });
    const early = once(machine.client, 'exit').then(([code]) => {
      throw new Error(`the container ended with ${code}: ${log}`);
    });
    early.catch(() => {});
    await Promise.race([rig.connected(), early]);
    return machine;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await docker(['rm', '--force', this.name]).catch(() => {});
    await this.rig[Symbol.asyncDispose]();
  }
}

/** A socket that everybody may connect to, and that answers. */
class FlySocket implements AsyncDisposable {
  readonly dir = mkdtempSync(join(scratch, 'fly-'));
  readonly path = join(this.dir, 'api');
  calls = 0;
  readonly #server: Server = createServer((_request, response) => {
    this.calls += 1;
    response.end('a signed token');
  });

  static async open(): Promise<FlySocket> {
    const fly = new FlySocket();
    mkdirSync(fly.dir, { recursive: true });
    fly.#server.listen(fly.path);
    await once(fly.#server, 'listening');
    chmodSync(fly.dir, 0o755);
    chmodSync(fly.path, 0o777);
    return fly;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Headers of all files of an image, by name. */
async function contents(image: string): Promise<Map<string, Header>> {
  const container = await docker(['create', image]);
  try {
    const files = new Map<string, Header>();
    const tar = spawn('docker', ['export', container], { stdio: ['ignore', 'pipe', 'inherit'] });
    for await (const entry of tar.stdout.pipe(extract())) {
      files.set(entry.header.name, entry.header);
      entry.resume();
    }
    return files;
  } finally {
    await docker(['rm', container]);
  }
}
