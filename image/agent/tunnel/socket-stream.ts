import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

const BUFFERED_BYTES = 1 << 20;

/**
 * The open socket as the byte stream under HTTP/2. HTTP/2 writes in frames of a few KiB: what has gathered goes as one message.
 * The stream is destroyed but never ended: at an end Node's stream adapter shuts down under HTTP/2's feet and ends the process
 * with an assertion (lib/internal/js_stream_socket.js, seen with 24.21).
 */
export function socketStream(socket: WebSocket): Duplex {
  const stream = new Duplex({
    readableHighWaterMark: BUFFERED_BYTES,
    writableHighWaterMark: BUFFERED_BYTES,
    read: () => socket.resume(),
    write: (chunk: Buffer, _encoding, done) => socket.send(chunk, done),
    writev: (chunks, done) => socket.send(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)), done),
    final: (done) => {
      socket.close();
      done();
    },
    destroy: (error, done) => {
      socket.terminate();
      done(error);
    },
  });
  socket.on('message', (data: Buffer) => {
    if (!stream.push(data)) socket.pause();
  });
  socket.once('close', () => stream.destroy());
  socket.on('error', (error) => stream.destroy(error));
  return stream;
}
