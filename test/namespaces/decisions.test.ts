import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cgroupMounts, limitFiles } from '../../local/fly/namespaces/hierarchies.ts';
import { explain } from '../../local/fly/namespaces/host.ts';
import { exportText } from '../../local/fly/namespaces/launch.ts';
import { toExit } from '../../local/fly/namespaces/machine.ts';
import { describeHost } from '../../local/fly/namespaces/report.ts';
import { fstab, mountPoints } from '../../local/fly/namespaces/root-fs.ts';
import { findTools } from '../../local/fly/namespaces/tools.ts';
import { parseSubids, RANGE_SIZE, UidRanges } from '../../local/fly/namespaces/uid-ranges.ts';

describe('ranges of ids', () => {
  test('are read from /etc/subuid', () => {
    const text = 'ann:100000:65536\n# note\n\n1000:165536:65536\nbad:x:1\n';
    expect(parseSubids(text)).toEqual([
      { first: 100_000, count: 65_536 },
      { first: 165_536, count: 65_536 },
    ]);
  });

  test('never overlap each other or a reserved one', () => {
    const span = fc.record({
      first: fc.integer({ min: 0x6fff_0000, max: 0x7fff_ffff }),
      count: fc.integer({ min: 1, max: 1e8 }),
    });
    const start = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.array(span, { maxLength: 3 }), start, (reserved, from) => {
        const ranges = new UidRanges(reserved, () => from);
        const taken = Array.from({ length: 20 }, () => ranges.take());
        expect(new Set(taken).size).toBe(20);
        for (const base of taken) {
          expect(base % RANGE_SIZE).toBe(0);
          expect(base + RANGE_SIZE).toBeLessThan(2 ** 31);
          expect(reserved.some(({ first, count }) => first < base + RANGE_SIZE && base < first + count)).toBe(
            false,
          );
        }
      }),
    );
  });

  test('can be given again once they are free', () => {
    const ranges = new UidRanges([], () => 0);
    const first = ranges.take();
    expect(ranges.take()).not.toBe(first);
    ranges.free(first);
    expect(ranges.take()).toBe(first);
  });

  test('run out with an error', () => {
    const all = new UidRanges([{ first: 0, count: 2 ** 31 }], () => 0.5);
    expect(() => all.take()).toThrow('in use');
  });
});

describe('the mount table', () => {
  const machine = {
    ...{ root: '/state/a b/root', disk: '/state/a b', agent: '/agent', node: '/node', gateway: '/gate' },
    ...{ firstId: 1_000_000, severalUsers: true, cgroups: [] },
  };
  const lines = (table: string) =>
    table
      .trim()
      .split('\n')
      .map((line) => line.split(' '));

  test('escapes paths, and mounts nothing of the host writable but the devices and the folders of the machine', () => {
    const table = lines(fstab(machine, []));
    for (const fields of table) expect(fields).toHaveLength(6);
    expect(table.every(([, target]) => target!.startsWith('/state/a\\040b/root/'))).toBe(true);
    const writable = table.filter(([, , type, options]) => type === 'none' && !/(^|,)ro(,|$)/.test(options!));
    expect(writable.map(([source]) => source).filter((source) => !source!.startsWith('/dev/'))).toEqual([
      '/state/a\\040b/workspace',
      '/state/a\\040b/home',
      '/state/a\\040b/state',
      '/state/a\\040b/tmp',
      '/state/a\\040b/var-tmp',
    ]);
  });

  test('covers what the host has mounted below a folder by read-only views', () => {
    const table = lines(fstab(machine, ['/usr/local', '/usrlocal', '/home']));
    expect(table.filter(([source]) => source!.includes('local'))).toEqual([
      ['/usr/local', '/state/a\\040b/root/usr/local', 'none', 'bind,ro,nosuid,nodev', '0', '0'],
    ]);
  });

  test('puts the gateway where only root looks if there are several users', () => {
    expect(fstab(machine, [])).toContain('/root/mobvibe none bind,ro');
    expect(fstab({ ...machine, severalUsers: false }, [])).toContain('/run/mobvibe none bind,ro');
    expect(fstab({ ...machine, gateway: undefined }, [])).not.toContain('/root/mobvibe ');
    expect(fstab({ ...machine, severalUsers: false }, [])).not.toMatch(/devpts .*gid/);
  });

  test('mount points are read with their escapes', () => {
    const mountinfo =
      '29 1 8:1 / / rw - ext4 /dev/sda rw\n30 29 0:5 / /a\\040b rw shared:1 - tmpfs tmpfs rw\n';
    expect(mountPoints(mountinfo)).toEqual(['/', '/a b']);
  });
});

describe('cgroups', () => {
  const v1 =
    '31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 30 0:29 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n';
  const v2 =
    '33 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n34 30 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n';

  test.each([
    {
      what: 'v1 below the own cgroup',
      mounts: v1,
      own: '4:memory:/a/b\n1:cpu,cpuacct:/docker/x/y\n',
      parents: ['/sys/fs/cgroup/memory/a/b', '/sys/fs/cgroup/cpu/y'],
    },
    {
      what: 'v1 whose own cgroup is out of sight',
      mounts: v1,
      own: '4:memory:/\n1:cpu,cpuacct:/elsewhere\n',
      parents: ['/sys/fs/cgroup/memory', '/sys/fs/cgroup/cpu'],
    },
    {
      what: 'v2 at its top, and no v1 tree without a limit',
      mounts: v2,
      own: '0::/user.slice\n1:freezer:/\n',
      parents: ['/sys/fs/cgroup'],
    },
  ])('are made in $what', ({ mounts, own, parents }) => {
    expect(cgroupMounts(mounts, own).map(({ parent }) => parent)).toEqual(parents);
  });

  test('limit what the guest has', () => {
    const limits = { memoryMb: 512, cpus: 2, pids: 100 };
    const controllers = ['memory', 'cpu', 'pids'] as const;
    const folder = '';
    expect(
      Object.fromEntries(limitFiles({ version: 2, controllers: [...controllers], folder }, limits)),
    ).toEqual({
      'memory.max': '536870912',
      'memory.swap.max': '0',
      'cpu.max': '200000 100000',
      'pids.max': '100',
    });
    expect(limitFiles({ version: 1, controllers: ['memory'], folder }, limits)).toEqual([
      ['memory.limit_in_bytes', '536870912'],
      ['memory.memsw.limit_in_bytes', '536870912'],
    ]);
    expect(limitFiles({ version: 2, controllers: [], folder }, limits)).toEqual([]);
  });
});

test('an environment comes through a shell as it was', () => {
  const name = fc.stringMatching(/^MV_[A-Za-z0-9_]{1,8}$/);
  const value = fc
    .string({ unit: 'binary', maxLength: 40 })
    .filter((text) => !text.includes('\0') && text.isWellFormed());
  fc.assert(
    fc.property(fc.dictionary(name, value, { maxKeys: 5, noNullPrototype: true }), (env) => {
      const script = `${exportText(env)}exec env -0`;
      const seen = execFileSync('/bin/sh', ['-c', script], { env: {}, encoding: 'utf8' });
      const pairs = seen.split('\0').filter((pair) => pair.startsWith('MV_'));
      expect(new Set(pairs)).toEqual(new Set(Object.entries(env).map(([key, text]) => `${key}=${text}`)));
    }),
    { numRuns: 40 },
  );
  expect(() => exportText({ 'A B': '' })).toThrow('"A B"');
  expect(() => exportText({ A: 'x\0' })).toThrow('"A"');
});

test.each([
  { code: 0, signal: null, exit: { exit_code: 0, signal: null } },
  { code: 7, signal: null, exit: { exit_code: 7, signal: null } },
  { code: 143, signal: null, exit: { exit_code: 143, signal: 'SIGTERM' } },
  { code: 255, signal: null, exit: { exit_code: 255, signal: null } },
  { code: null, signal: 'SIGKILL' as const, exit: { exit_code: 137, signal: 'SIGKILL' } },
])('an end with code $code and signal $signal', ({ code, signal, exit }) => {
  expect(toExit(code, signal)).toEqual(exit);
});

test.each([
  { stderr: 'unshare: no line matching user "ann" in /etc/subuid: Success', says: 'no id range' },
  { stderr: 'unshare: unshare failed: No space left on device', says: 'max_user_namespaces' },
  { stderr: 'unshare: mount /proc failed: Operation not permitted', says: '/proc is partly covered' },
  { stderr: 'unshare: unshare failed: Operation not permitted', says: 'not allowed for this user' },
  { stderr: "unshare: unrecognized option '--map-auto'", says: '2.38' },
])('"$stderr" is explained', ({ stderr, says }) => {
  expect(explain(stderr)).toContain(says);
  expect(explain(stderr)).toContain(stderr);
});

test('every missing tool is named with its package', () => {
  expect(() => findTools(['/nowhere'])).toThrow(
    /unshare \(package util-linux\).*pivot_root.*not found in \/nowhere/,
  );
});

test('the report says what no cgroup limits', () => {
  const host = { mode: 'root' as const, tools: findTools(), refused: [] };
  const v1 = { version: 1 as const, controllers: ['memory' as const], folder: '' };
  const { summary, lacks } = describeHost(host, [v1]);
  expect(summary).toContain('cgroups limit memory');
  expect(lacks.join('\n')).not.toContain('no memory limit');
  expect(lacks.join('\n')).toMatch(/no CPU quota.*RLIMIT_NPROC.*SIGSTOP/s);
});
