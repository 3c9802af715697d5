import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { probeHost } from '../../local/fly/namespaces/host.ts';
import { HOST_USERS, makeStage } from './host-users.ts';
import { RemoteEngine } from './remote-engine.ts';

const unshare = (...args: string[]) => ['unshare', ...args];
const afterwards = (script: string) => ['sh', '-ec', `${script}; exec "$@"`, 'sh'];

describe('a host that lets no machine be made is refused, with what is missing', () => {
  let stage: ReturnType<typeof makeStage>;
  const uid = process.getuid!();
  beforeAll(() => {
    stage = makeStage(uid);
  });
  afterAll(() => stage.remove());

  test('it is no Linux', async () => {
    await expect(probeHost('darwin')).rejects.toMatchObject({
      code: 'unsupported_host',
      message: expect.stringContaining('needs Linux; this is darwin'),
    });
  });

  test('no user namespaces are left', async () => {
    const command = [
      ...unshare('--user', '--map-root-user'),
      ...afterwards('echo 0 > /proc/sys/user/max_user_namespaces'),
    ];
    await expect(RemoteEngine.start([...command, ...stage.engine({})])).rejects.toMatchObject({
      code: 'unsupported_host',
      message: expect.stringContaining('user.max_user_namespaces'),
    });
  });

  test('/proc is partly covered', async () => {
    const own = uid === 0 ? [] : ['--user', '--map-root-user'];
    const user = HOST_USERS[2]!.missing ? [] : HOST_USERS[2]!.open().become;
    const command = [...unshare(...own, '--mount'), ...afterwards('mount --bind /dev/null /proc/uptime')];
    const other = user.length > 0 ? makeStage(HOST_USERS[2]!.open().uid) : stage;
    await expect(RemoteEngine.start([...command, ...user, ...other.engine({})])).rejects.toMatchObject({
      code: 'unsupported_host',
      message: expect.stringContaining('/proc is partly covered'),
    });
    if (other !== stage) other.remove();
  });
});

test('what the host has mounted below /usr is read-only in a machine', async ({ skip }) => {
  if (process.getuid!() !== 0) skip('only root can mount something below /usr');
  const stage = makeStage(0);
  const command = [...unshare('--mount'), ...afterwards('mount --bind /usr/share /usr/share')];
  const engine = await RemoteEngine.start([...command, ...stage.engine({})]);
  const machine = await engine.machine('m1');
  const mounts = await machine.sh('awk \'$5 ~ "^/usr" {print $5, $6}\' /proc/self/mountinfo');
  await engine.close();
  stage.remove();
  expect(mounts).toContain('/usr/share ');
  const top = new Map(mounts.split('\n').map((line) => line.split(' ') as [string, string]));
  expect(top.get('/usr/share')).toMatch(/^ro,/);
  expect(top.get('/usr')).toMatch(/^ro,/);
});
