import http2 from 'node:http2';
import type { WebSocket } from 'ws';
import { socketStream } from '../../../controller/agents/socket-stream.ts';
import type { Router } from '../http/router.ts';
import { log, messageOf } from '../log.ts';

const STREAM_WINDOW_BYTES = 16 << 20;
const CONNECTION_WINDOW_BYTES = 64 << 20;
const FRAME_BYTES = 256 << 10;

/** Serves HTTP/2 on the open socket. Settles when the socket has closed. */
export function serve(socket: WebSocket, router: Router): Promise<void> {
  const duplex = socketStream(socket);
  duplex.on('error', (error) => log('warn', 'tunnel broke', { detail: messageOf(error) }));
  const session = http2.performServerHandshake(duplex, {
    maxSessionMemory: 256,
    settings: {
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxFrameSize: FRAME_BYTES,
      maxConcurrentStreams: 4096,
    },
  });
  session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  session.on('stream', (stream, headers) => router.handle(stream, headers));
  session.on('error', (error) => log('warn', 'tunnel session failed', { detail: messageOf(error) }));
  return new Promise((resolve) => {
    session.once('close', () => socket.terminate());
    socket.once('close', () => {
      session.destroy();
      resolve();
    });
  });
}
