import type Docker from 'dockerode';
import type { MachineSpec } from '../engine.ts';
import type { DockerInfo } from './client.ts';
import type { Attachment } from './networks.ts';
import { APP, MACHINE, type Ownership, ownershipLabels } from './ownership.ts';

/** Fly has no such limit; it keeps a fork bomb from this computer. */
const PIDS_MAX = 2_048;

/** The container that is the machine, ready for `POST /containers/create`. Pure. */
export function containerOptions(
  spec: MachineSpec,
  imageId: string,
  attachment: Attachment,
  ownership: Ownership,
  info: DockerInfo,
): Docker.ContainerCreateOptions {
  const memory = spec.guest.memory_mb * 1024 * 1024;
  return {
    name: `${ownership.prefix}-${spec.id}`,
    Image: imageId,
    Hostname: spec.id,
    Env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
    ...command(spec),
    Labels: { ...ownershipLabels(ownership), [MACHINE]: spec.id, [APP]: spec.app },
    // Fly knows nothing of an image's own health check.
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      // As on Fly the main process is not pid 1: a signal that it does not handle ends it.
      Init: true,
      RestartPolicy: { Name: 'no' },
      // What it writes is read as it comes; nothing is kept by Docker.
      LogConfig: { Type: 'none', Config: {} },
      ...(info.MemoryLimit ? { Memory: memory } : {}),
      ...(info.MemoryLimit && info.SwapLimit ? { MemorySwap: memory } : {}),
      ...(info.CpuCfsQuota ? { NanoCpus: Math.min(spec.guest.cpus, info.NCPU) * 1e9 } : {}),
      ...(info.PidsLimit ? { PidsLimit: PIDS_MAX } : {}),
      // Machines on one network must not be able to take each other's addresses.
      CapDrop: ['NET_RAW'],
      NetworkMode: attachment.network,
      ...(spec.network.deniesEgress ? NO_OUTSIDE_NAMES : HOST_NAME),
    },
    NetworkingConfig: { EndpointsConfig: { [attachment.network]: { Aliases: attachment.aliases } } },
  };
}

/** Docker resolves the names of its networks itself. All else it would ask of the host's resolver: a way out. */
const NO_OUTSIDE_NAMES = { Dns: ['127.0.0.1'], DnsOptions: ['timeout:1', 'attempts:1'] };
const HOST_NAME = { ExtraHosts: ['host.docker.internal:host-gateway'] };

/** `Entrypoint: ['']` is Docker's word for none; `Cmd` is all of the command line then. */
function command({ exec, cmd }: MachineSpec): Pick<Docker.ContainerCreateOptions, 'Entrypoint' | 'Cmd'> {
  if (exec) return { Entrypoint: [''], Cmd: exec };
  return cmd ? { Cmd: cmd } : {};
}
