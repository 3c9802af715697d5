import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findTools, ownKeyring } from '../../local/fly/namespaces/tools.ts';
import { asEveryUser, NODE, TestHost } from './every-user.ts';
import { RemoteEngine, type RemoteMachine } from './remote-engine.ts';
import { asUser } from './user-code.ts';

asEveryUser((host) => {
  test('a machine has a root of its own, in which nothing of the host is to be found', async () => {
    const machine = host().idle;
    const top = (await machine.sh('ls /')).split('\n');
    const libraries = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];
    expect(top.filter((entry) => !libraries.includes(entry))).toEqual([
      'dev',
      'etc',
      'home',
      'opt',
      'proc',
      'root',
      'run',
      'sys',
      'tmp',
      'usr',
      'var',
      'workspace',
    ]);
    expect(
      await machine.sh(
        `ls -d ${host().stage.dir} ${process.cwd()} /etc/shadow /etc/subuid /boot /srv 2>/dev/null`,
      ),
    ).toBe('');
    expect(await machine.sh('ls -A /home/* /workspace /tmp /var/tmp | grep -v : | tr -d "\\n"')).toBe('');
    expect(await machine.sh('ls /dev')).not.toMatch(/sd|vd|mem|kmsg|fuse|tun/);
    const mounts = (await machine.sh('cut -d" " -f5 /proc/self/mountinfo')).split('\n');
    const known =
      /^\/($|usr|lib|etc\/(ssl|alternatives)|opt\/(agent|node\/bin\/node)|proc|dev\/|tmp|var\/(tmp|lib\/mobvibe)|run|root|workspace|home\/user|sys\/fs\/cgroup)/;
    expect(mounts.filter((mount) => !known.test(mount))).toEqual([]);
    const open = await machine.sh('for fd in /proc/1/fd/*; do readlink $fd; done');
    expect(open.replace(/(^|\n)(\/dev\/null|\/opt\/init.sh|(pipe|socket):\[\d+\])(?=\n|$)/g, '')).toBe('');
    expect(await machine.sh('hostname; cat /proc/sys/kernel/hostname')).toBe(`${machine.id}\n${machine.id}`);
    expect(await machine.sh(`ls /sys/class/net 2>/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1`)).toBe(
      'lo',
    );
    expect(await machine.sh(`exec ${NODE} -p 'process.version'`)).toBe(process.version);
  });

  test('only the folders of the machine itself can be written', async () => {
    const machine = host().idle;
    const files = [
      '/x',
      '/etc/x',
      '/usr/x',
      '/usr/bin/x',
      '/opt/x',
      '/opt/agent/x',
      '/var/x',
      '/etc/ssl/x',
      '/run/mobvibe/x',
    ];
    const open = (
      await machine.sh("for f in $(awk '$6 ~ /rw/ {print $5}' /proc/self/mountinfo); do echo $f; done")
    ).split('\n');
    expect(open.filter((mount) => /^\/(usr|lib|etc|opt|$)/.test(mount))).toEqual([]);
    const tried = await machine.sh(`for f in ${files.join(' ')}; do touch $f 2>/dev/null && echo $f; done`);
    expect(tried).toBe('');
    const mine = ['/workspace/x', '/tmp/x', '/var/tmp/x', '/home/user/x', '/dev/shm/x'];
    const { said } = await asUser(machine, `for f in ${mine.join(' ')}; do touch $f && echo $f; done`);
    expect(said.split('\n')).toEqual(mine);
  });

  test('machines see neither files nor processes of each other', () =>
    host().withMachine({}, (one) =>
      host().withMachine({}, async (other) => {
        await asUser(one, 'echo mine > /workspace/secret; echo mine > /tmp/secret');
        expect(await other.sh('ls -A /workspace /tmp | grep secret')).toBe('');
        await one.exec(['sh', '-c', 'sleep 4321 >/dev/null 2>&1 </dev/null &']);
        expect(await one.sh('cat /proc/[0-9]*/cmdline | tr "\\0" " "')).toContain('sleep 4321');
        expect(await other.sh('cat /proc/[0-9]*/cmdline | tr "\\0" " "')).not.toContain('4321');
      }),
    ));

  test('user code cannot get out', async () => {
    const machine = host().idle;
    const attempts = {
      'make /usr writable': 'mount -o remount,rw,bind /usr',
      'make the root writable': 'mount -o remount,rw,bind /',
      'uncover what is below /usr': 'umount -l /usr',
      'uncover /proc': 'umount -l /proc',
      'mount a disk': 'mount -t tmpfs tmpfs /workspace',
      'make a device': 'mknod /workspace/disk b 8 0',
      'change the root': 'mkdir -p r; chroot r /bin/true',
      'enter the host by pid 1': 'nsenter -t 1 -m -p ls /',
      'become root': 'setpriv --reuid 0 true',
      'change the host name': 'hostname elsewhere',
      'change the network': 'ip link set lo down',
      'write a setting of the kernel': 'echo 1 > /proc/sys/kernel/panic',
      'trigger the kernel': 'echo h > /proc/sysrq-trigger',
      'read the log of the kernel': 'head -c1 /proc/kmsg',
      // With a single id it is the agent who forbids that, after it has made the user's side.
      ...(machine.hasSingleUser ? {} : { 'make a user namespace': 'unshare --user true' }),
    };
    const script = Object.entries(attempts).map(
      ([what, attempt]) => `timeout 5 sh -c '${attempt}' >/dev/null 2>&1 && echo "${what}"`,
    );
    expect((await asUser(machine, `${script.join('\n')}\necho done`)).said).toBe('done');
  });

  test("the machine's root cannot get out", () =>
    host().withMachine({}, async (machine) => {
      // With a single id it may mount, since it has to make the user's side; what it reaches stays its own.
      await machine.sh('mount -o remount,rw,bind /usr; mount -o remount,rw /usr');
      expect(await machine.sh('touch /usr/bin/owned')).toMatch(/Read-only|Permission denied/);
      expect(await machine.sh('mknod /workspace/disk b 8 0')).toContain('Operation not permitted');
      const places = await machine.sh(
        'nsenter -t 1 -m ls /; mkdir -p /workspace/r; cd /workspace; chroot r ls ../../../../../..',
      );
      expect(places).not.toMatch(/\b(boot|srv|media|lost\+found)\b/);
      expect(await machine.sh('echo 1 > /proc/sys/kernel/panic')).toMatch(/denied|not permitted|Read-only/i);
    }));

  test('user code cannot read, debug or signal the agent', async () => {
    const script =
      'globalThis.held = process.env.TOKEN; console.log("agent", process.pid, "is up"); setInterval(() => {}, 1000)';
    const exec = [NODE, '--disable-sigusr1', '-e', script];
    await host().withMachine({ exec, env: { TOKEN: 'tell-nobody' } }, async (machine) => {
      const agent = /agent (\d+) is up/.exec(await host().engine.printed('is up'))![1];
      const looks = ['cat /proc/*/environ', 'ls /proc/*/fd/', 'head -c9 /proc/*/mem', 'cat /proc/*/maps'];
      for (const look of looks) {
        const { said } = await asUser(
          machine,
          `for p in 1 ${agent}; do [ $p = $$ ] || ${look.replaceAll('*', '$p')}; done`,
        );
        expect(said, look).not.toMatch(/tell-nobody|opt\/node|socket:/);
      }
      await asUser(machine, `for s in USR1 TERM STOP KILL; do kill -$s ${agent}; done`);
      expect((await asUser(machine, 'cat /proc/*/environ 2>/dev/null | tr "\\0" "\\n"')).said).not.toContain(
        'TOKEN',
      );
      expect(await machine.sh(`grep State /proc/${agent}/status; grep -i 2405 /proc/net/tcp`)).toMatch(
        /S \(sleeping\)$/,
      );
    });
  });

  test("the machine's root reaches sockets of the gateway folder, also when made anew; user code does not", async () => {
    const machine = host().idle;
    const path = join(host().stage.dir, 'gateway/test.sock');
    const connect = `exec ${NODE} -e 'require("net").connect("/run/mobvibe/test.sock").on("data", d => console.log(String(d))).on("error", e => console.log(e.code))'`;
    for (const greeting of ['one', 'two']) {
      rmSync(path, { force: true });
      const server = createServer((socket) => socket.end(greeting));
      await new Promise<void>((resolve) => server.listen(path, resolve));
      chmodSync(path, 0o666);
      expect(await machine.sh(connect)).toBe(greeting);
      expect((await asUser(machine, connect)).said).toMatch(/^(EACCES|ENOENT)$/);
      server.close();
    }
  });

  /** An engine whose command line is changed by `wrap`, and a machine of it. */
  async function startedBy(
    wrap: (engine: string[]) => string[],
    use: (machine: RemoteMachine, engine: RemoteEngine) => Promise<void>,
  ) {
    const engine = [...host().user.become, ...host().stage.engine({ stateDir: host().stateDir('starter') })];
    const own = await RemoteEngine.start(wrap(engine));
    await use(await own.machine(TestHost.newId()), own);
    await own.close();
  }

  test('passes on no descriptor that was left open by whoever started it', async () => {
    const secret = join(host().stage.dir, 'secret');
    writeFileSync(secret, 'secret');
    await startedBy(
      (engine) => ['bash', '--norc', '-c', 'exec 87<"$0"; exec "$@"', secret, ...engine],
      async (machine) => expect(await machine.sh('ls -l /proc/[0-9]*/fd')).not.toContain('secret'),
    );
  });

  test('passes on no terminal: nothing in a machine can type into that of whoever started it', async () => {
    const quoted = (words: string[]) => words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
    // The engine in a terminal, but talking to us through the pipes that `script` was given.
    const talk = 'exec 8<&0 9>&1; exec script -qefc "$0" /dev/null </dev/null >/dev/null';
    await startedBy(
      (engine) => ['sh', '-c', talk, `(: </dev/tty) && exec ${quoted(engine)} <&8 >&9 8<&- 9>&-`],
      async (machine) => {
        expect(await machine.sh('cut -d" " -f7 /proc/[0-9]*/stat | sort -u')).toBe('0');
        expect(await machine.sh('exec </dev/tty && echo open')).toContain('No such device');
      },
    );
  });

  test('passes on no keys of whoever started it, and no keyring that two machines share', async ({
    skip,
  }) => {
    const own = ownKeyring(findTools());
    skip(own.length === 0, 'no perl, or not an x64 or arm64 processor');
    const [perl, keyctl] = [own[0]!, /syscall\((\d+)/.exec(own[2]!)![1]!];
    const addKey = { x64: 248, arm64: 217 }[process.arch as 'x64' | 'arm64'];
    // Into the session keyring (-3); add_key and KEYCTL_SEARCH (10) want memory that can be written for their words.
    const words = 'my ($t, $n, $v) = ("user", "mobvibe-test", "secret");';
    const add = `${words} syscall(${addKey}, $t, $n, $v, 6, -3) > 0 or exit 9;`;
    const find = `${words} print "key ", (syscall(${keyctl}, 10, -3, $t, $n, 0) > 0 ? "found" : "absent"), "\\n";`;
    await startedBy(
      (engine) => [perl, '-e', `syscall(${keyctl}, 1, 0) > 0 or exit 9; ${add} exec @ARGV`, ...engine],
      async (machine, engine) => {
        expect((await asUser(machine, `perl -e '${find}'`)).said).toBe('key absent');
        expect((await asUser(machine, `perl -e '${add} ${find}'`)).said).toBe('key found');
        const exec = ['perl', '-e', `$| = 1; ${find} ${add} ${find} sleep`];
        for (const id of [TestHost.newId(), TestHost.newId()]) {
          const { signal, exited } = await engine.machine(id, { exec });
          await engine.printed('key found');
          expect(engine.console.splice(0)).toEqual(['key absent', 'key found']);
          await signal('SIGKILL');
          await exited;
        }
      },
    );
  });
});
