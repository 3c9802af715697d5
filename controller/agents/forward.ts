import type { IncomingMessage } from 'node:http';
import { type Duplex, pipeline } from 'node:stream';
import { peerRequest } from '../peers.ts';

/** Hands an agent's dial to the controller that it belongs to, and its bytes both ways from then on. Answers 503 where that can't be reached. */
export function forwardUpgrade(
  { method = 'GET', url = '/', headers }: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  address: string,
): void {
  const outgoing = peerRequest(address, { method, url, headers }, { upgrade: true });
  const refuse = (status: number, reason: string) =>
    socket.end(`HTTP/1.1 ${status} ${reason}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
  outgoing.once('error', () => refuse(503, 'Service Unavailable'));
  outgoing.once('response', (answer) => {
    answer.resume();
    refuse(answer.statusCode!, answer.statusMessage!);
  });
  outgoing.once('upgrade', (answer, upstream, upstreamHead) => {
    const lines = answer.rawHeaders.flatMap((name, n, all) =>
      n % 2 === 0 ? [`${name}: ${all[n + 1]}`] : [],
    );
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`);
    if (upstreamHead.length > 0) socket.write(upstreamHead);
    if (head.length > 0) upstream.write(head);
    pipeline(socket, upstream, () => upstream.destroy());
    pipeline(upstream, socket, () => socket.destroy());
  });
  socket.once('close', () => outgoing.destroy());
  outgoing.end();
}
