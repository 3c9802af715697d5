import { parseArgs } from 'node:util';

/** A mistake of whoever starts local Fly, in words for them. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

const engines = ['namespaces', 'docker', 'simulated'] as const;

export interface MainOptions {
  engine: (typeof engines)[number];
  stateDir: string;
  port: number;
  token: string;
  /** Slug of the organisation that the token is for; absent: all. */
  org?: string;
  /** Folder bound into every machine: the machines' way to the controller. */
  gatewayDir?: string;
  /** Image reference to the folder that it is made of. */
  images: Record<string, string>;
  /** Docker's Unix socket. */
  dockerSocket?: string;
  /** Ports of this host's loopback that the docker engine's machines reach as `host.docker.internal`. */
  hostPorts: number[];
  rateLimits: boolean;
  /** End when stdin closes: whoever started this is gone. */
  tethered: boolean;
}

export const usage = `Usage: FLY_API_TOKEN=… node local/fly/main.ts --state-dir DIR [options]
  --state-dir DIR     where machines are kept; one local Fly at a time
  --engine NAME       namespaces (default), docker or simulated
  --docker-socket P   where the docker engine finds Docker; default /var/run/docker.sock
  --host-port N       docker engine: a port of this host's loopback that machines reach as host.docker.internal; repeatable
  --port N            default 0: any free port
  --gateway-dir DIR   folder bound into every machine: its way to the controller
  --image REF=DIR     an image that machines may be made of; repeatable
  --org SLUG          the token is this organisation's; without, it is good for all
  --no-rate-limits    without Fly's limits of 1 call a second per action and machine
  --tethered          end when stdin closes`;

/** Flags and `FLY_API_TOKEN` (never a flag: command lines are public). Throws `UsageError` naming the flag. */
export function parseMainOptions(args: string[], env: Record<string, string | undefined>): MainOptions {
  const values = parseFlags(args);
  const token = env.FLY_API_TOKEN;
  if (!token) throw new UsageError('FLY_API_TOKEN is not set: it is the token that callers must show');
  const engine = engines.find((name) => name === (values.engine ?? 'namespaces'));
  if (!engine) throw new UsageError(`--engine: "${values.engine}" is not one of ${engines.join(', ')}`);
  const stateDir = values['state-dir'];
  if (!stateDir) throw new UsageError('--state-dir is missing');
  return {
    engine,
    stateDir,
    port: parsePort('--port', values.port ?? '0', 0),
    token,
    org: values.org,
    gatewayDir: values['gateway-dir'],
    dockerSocket: values['docker-socket'],
    images: Object.fromEntries((values.image ?? []).map(parseImage)),
    hostPorts: (values['host-port'] ?? []).map((port) => parsePort('--host-port', port, 1)),
    rateLimits: !values['no-rate-limits'],
    tethered: values.tethered ?? false,
  };
}

function parseFlags(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        engine: { type: 'string' },
        'state-dir': { type: 'string' },
        port: { type: 'string' },
        'host-port': { type: 'string', multiple: true },
        'gateway-dir': { type: 'string' },
        image: { type: 'string', multiple: true },
        'docker-socket': { type: 'string' },
        org: { type: 'string' },
        'no-rate-limits': { type: 'boolean' },
        tethered: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function parsePort(flag: string, text: string, least: number): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < least || port > 65_535) {
    throw new UsageError(`${flag}: "${text}" is not a port`);
  }
  return port;
}

function parseImage(flag: string): [string, string] {
  const at = flag.indexOf('=');
  if (at < 1 || at === flag.length - 1) throw new UsageError(`--image: "${flag}" is not REF=DIR`);
  return [flag.slice(0, at), flag.slice(at + 1)];
}
