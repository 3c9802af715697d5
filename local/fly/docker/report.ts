import type { EngineReport } from '../engine.ts';
import type { DockerInfo } from './client.ts';

/** What machines are here and what they lack, in sentences for a person. */
export function describeDocker(info: DockerInfo, socketPath: string): EngineReport {
  const { ServerVersion, OperatingSystem, CgroupVersion = '1', NCPU } = info;
  const lacks = [
    ...(info.MemoryLimit ? [] : ['no memory limit: Docker says that this kernel has none']),
    ...(info.SwapLimit ? [] : ['a machine may swap beyond its memory limit']),
    ...(info.CpuCfsQuota ? [] : ['no CPU limit: Docker says that this kernel has none']),
    ...(info.PidsLimit ? [] : ['no limit on processes: Docker says that this kernel has none']),
    ...(info.IPv4Forwarding
      ? []
      : ['no way out of a machine: IPv4 forwarding is switched off (sysctl net.ipv4.ip_forward)']),
    `at most ${NCPU} CPUs for a machine, as many as Docker has`,
    'no limit on the disk space of a machine',
    'no IPv6, and so no 6PN: machines have IPv4 addresses; names in .internal and .flycast lead to them',
    'a network policy denies a direction altogether, whatever ports its rules name',
    'a machine that may reach out also reaches services of this host that listen on other addresses than loopback',
  ];
  const summary = `Machines are containers of Docker ${ServerVersion} (${OperatingSystem}, cgroup v${CgroupVersion}) at ${socketPath}`;
  return { summary, lacks };
}
