import { sandboxOfBearer } from '../agents/token.ts';
import { ConfigError, integer, type Knob, matching, path, readKnobs } from '../knobs.ts';
import { type EgressProxyOptions, parseTarget } from './proxy.ts';

/** Every knob of the egress proxy. One of the two listeners is needed; on a port, everybody must show an agent's token. */
export const EGRESS_KNOBS = {
  allow: {
    variable: 'MOBVIBE_EGRESS_ALLOW',
    parse: (text: string) =>
      new Set(
        text.split(',').map((entry) => {
          const target = parseTarget(entry);
          if (target === null) throw new Error('host:port pairs, separated by commas');
          return `${target.host}:${target.port}`;
        }),
      ),
    why: 'The host:port pairs that sandboxes may reach; the storage of the Supabase project is one',
  },
  socketPath: {
    variable: 'MOBVIBE_EGRESS_LISTEN_SOCKET',
    parse: path(107),
    optional: true,
    why: 'A Unix socket for machines without any network; who may open it is up to its folder',
  },
  port: {
    variable: 'MOBVIBE_EGRESS_LISTEN_PORT',
    parse: integer(0, 65_535),
    optional: true,
    why: 'A port on all addresses, reached by Flycast; 0 takes any free one',
  },
  agentSecret: {
    variable: 'MOBVIBE_AGENT_SECRET',
    secret: true,
    parse: matching(/^\S{32,}$/, 'at least 32 characters without spaces'),
    optional: true,
    why: "The controller's: HMAC key of the agents' tokens, needed with MOBVIBE_EGRESS_LISTEN_PORT",
  },
} as const satisfies Record<string, Knob>;

/** Throws a `ConfigError` that names the variable at fault. */
export function readEgressSettings(
  env: Record<string, string | undefined>,
): Pick<EgressProxyOptions, 'allow' | 'listen' | 'admit'> {
  const { allow, socketPath, port, agentSecret } = readKnobs(EGRESS_KNOBS, env) as {
    allow: ReadonlySet<string>;
    socketPath?: string;
    port?: number;
    agentSecret?: string;
  };
  if (socketPath !== undefined && port !== undefined) {
    throw new ConfigError([
      'MOBVIBE_EGRESS_LISTEN_SOCKET and MOBVIBE_EGRESS_LISTEN_PORT are both set; a proxy listens on one of them',
    ]);
  }
  if (socketPath !== undefined) return { allow, listen: { socketPath } };
  if (port === undefined) {
    throw new ConfigError(['Neither MOBVIBE_EGRESS_LISTEN_SOCKET nor MOBVIBE_EGRESS_LISTEN_PORT is set']);
  }
  if (agentSecret === undefined) {
    throw new ConfigError([`MOBVIBE_AGENT_SECRET is not set: ${EGRESS_KNOBS.agentSecret.why}`]);
  }
  // User code reaches the port as its agent does, but has no token to show.
  const admit = (authorization: string | undefined) =>
    sandboxOfBearer(agentSecret, authorization) !== undefined;
  return { allow, listen: { port }, admit };
}
