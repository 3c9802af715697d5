import WebSocket from 'ws';
import { LANES_HEADER } from '../../../controller/agents/wire.ts';

const HANDSHAKE_TIMEOUT_MS = 10_000;
const MAX_MESSAGE_BYTES = 64 << 20;

/** Dials the controller. Settles once the socket is open; an answer other than 101 is an error with its status. */
export function dial(url: string, token: string, headers: Record<string, string> = {}): Promise<WebSocket> {
  const socket = new WebSocket(url, {
    headers: { ...headers, [LANES_HEADER]: '1', authorization: `Bearer ${token}` },
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
    skipUTF8Validation: true,
    // Masks guard proxies that would take a browser's bytes for HTTP; a mask of zeros saves a pass over every byte.
    generateMask: (mask) => mask.fill(0),
  });
  return new Promise((resolve, reject) => {
    socket.once('open', () => {
      // Whoever serves the socket is not there yet: nothing may be read until then.
      socket.pause();
      resolve(socket);
    });
    socket.on('error', reject);
  });
}
