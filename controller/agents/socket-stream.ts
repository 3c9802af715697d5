import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

/**
 * A WebSocket as the byte stream that HTTP/2 runs on. Unlike ws's own `createWebSocketStream` it takes all that HTTP/2 has to
 * say in one go (`writev`) and sends it as one message: HTTP/2 hands over frames of 16 KiB, and one message for each costs more
 * than the bytes do.
 */
export function socketStream(socket: WebSocket): Duplex {
  const stream = new Duplex({
    readableHighWaterMark: 1024 * 1024,
    writableHighWaterMark: 1024 * 1024,
    read() {
      socket.resume();
    },
    write(chunk: Buffer, _encoding, done) {
      socket.send(chunk, { binary: true }, done);
    },
    writev(chunks, done) {
      socket.send(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)), { binary: true }, done);
    },
    final(done) {
      socket.close();
      done();
    },
    destroy(error, done) {
      socket.terminate();
      done(error);
    },
  });
  socket.on('message', (data) => {
    if (!stream.push(data as Buffer)) socket.pause();
  });
  // Without an `end` before: on that, Node's wrapper for streams that are no sockets begins to shut down while HTTP/2 still writes,
  // and ends the process with an assertion of its own (js_stream_socket.js, seen with 24.21).
  socket.once('close', () => stream.destroy());
  socket.on('error', (error) => stream.destroy(error));
  // HTTP/2 stops listening once its session has ended; a write that fails after that must not end the process.
  stream.on('error', () => {});
  return stream;
}
