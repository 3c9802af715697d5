import type { EngineReport } from '../engine.ts';
import { type Controller, type Hierarchy, limitedBy } from './hierarchies.ts';
import type { Host } from './host.ts';
import { loopbackUp, ownKeyring } from './tools.ts';

const USERS = {
  root: 'as root: each machine has a range of user ids of its own, and its mounts are locked',
  subuid: "as an ordinary user: machines share this user's range of ids in /etc/subuid",
  single:
    'as an ordinary user without a range of ids: user code gets a second user namespace, made by the agent',
} as const;

/** In place of a cgroup limit. */
const WITHOUT: Record<Controller, string> = {
  memory:
    'no memory limit for a machine as a whole, only for each process (RLIMIT_DATA, and a heap limit for Node); nothing is reported as killed for memory',
  cpu: 'no CPU quota; processes are placed on as many CPUs as the machine has (taskset), which user code can change',
  pids: 'no cgroup to count processes; RLIMIT_NPROC in the machine limits them',
};

/** What a host's machines are and what they lack, in sentences for a person. */
export function describeHost(host: Host, hierarchies: Hierarchy[]): EngineReport {
  const limited = limitedBy(hierarchies);
  const missing = (['memory', 'cpu', 'pids'] as const).filter((name) => !limited.has(name));
  const lacks = [
    ...host.refused.map(({ mode, reason }) => `not run in the "${mode}" way: ${reason}`),
    ...missing.map((name) => WITHOUT[name]),
    'no limit on the disk space of a machine',
    'no network but the loopback interface and the folder of gateway sockets',
    ...(canFreeze(hierarchies)
      ? []
      : ['suspend sends SIGSTOP, which user code can notice, in place of freezing']),
    ...(loopbackUp(host.tools)
      ? []
      : ['no loopback interface: neither ip (package iproute2) nor perl is installed']),
    ...(ownKeyring(host.tools).length > 0
      ? []
      : [
          'no keyring for each machine: machines can read the keys in the session of whoever started this (that takes perl on x64 or arm64)',
        ]),
  ];
  const limits = limited.size > 0 ? `; cgroups limit ${[...limited].join(', ')}` : '';
  return { summary: `Machines run in Linux namespaces, ${USERS[host.mode]}${limits}`, lacks };
}

export function canFreeze(hierarchies: Hierarchy[]): boolean {
  return hierarchies.some(({ version }) => version === 2);
}
