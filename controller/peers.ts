import { Agent, type ClientRequest, type IncomingHttpHeaders, request } from 'node:http';

/** Set on what one controller hands to another, which then answers it whatever it thinks of where it belongs: nothing goes in circles. */
export const FORWARDED_HEADER = 'x-mobvibe-forwarded';
/** A controller on the same private network answers in milliseconds, or is gone. */
const CONNECT_TIMEOUT_MS = 2_000;
/** Kept connections end well before the other side ends them (fastify: 72 s), as a request that crosses that end would be lost. */
const agent = new Agent({ keepAlive: true, timeout: 30_000 });
/** Of this connection, not of the message (RFC 9110, 7.6.1); Node sets its own. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'expect',
];

/** What `peerRequest` was ended with where it could not connect in time. */
class ConnectTimeout extends Error {
  override readonly name = 'ConnectTimeout';
}

/** The connection was never made, so nothing was sent. */
export function neverConnected(error: Error): boolean {
  const [first] = error instanceof AggregateError ? error.errors : [error];
  return first instanceof ConnectTimeout || ['connect', 'getaddrinfo'].includes(first?.syscall);
}

/** A request to another controller as it came in here. The caller sends the body, and tells an error's meaning by `neverConnected`. */
export function peerRequest(
  address: string,
  from: { method: string; url: string; headers: IncomingHttpHeaders },
  { upgrade = false } = {},
): ClientRequest {
  const headers: IncomingHttpHeaders = { ...from.headers, [FORWARDED_HEADER]: '1' };
  if (!upgrade) for (const name of HOP_BY_HOP) delete headers[name];
  const outgoing = request(address + from.url, { method: from.method, headers, ...(!upgrade && { agent }) });
  outgoing.once('socket', (socket) => {
    socket.setNoDelay(true);
    if (!socket.connecting) return;
    const tooLate = setTimeout(
      () =>
        outgoing.destroy(new ConnectTimeout(`no connection to ${address} within ${CONNECT_TIMEOUT_MS} ms`)),
      CONNECT_TIMEOUT_MS,
    );
    for (const event of ['connect', 'close']) socket.once(event, () => clearTimeout(tooLate));
  });
  return outgoing;
}
