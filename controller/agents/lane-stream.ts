import { createHash } from 'node:crypto';
import { Duplex } from 'node:stream';
import { FrameReader, frameHead } from './frames.ts';

/** What either end holds before the other one has to wait. */
const HELD_BYTES = 1024 * 1024;
const END = Buffer.alloc(0);

export interface LaneEnd {
  /** Of the upgraded connection, and what came right after the upgrade. */
  socket: Duplex;
  head: Buffer;
  /** True for the end that dialed. */
  dialed: boolean;
  /** What the stream is destroyed with when the socket breaks before the mark of the end. */
  broken: (cause?: Error) => Error;
}

/**
 * One end of a lane (see wire.ts). Not by way of ws, which gathers each message in a buffer of its own: buffers of this size are
 * what makes V8 collect garbage, and that cost more than all else on the way. The receiver closes the lane once it has read all, so that
 * `close` tells the sender that nothing is under way any more.
 */
export function laneStream({ socket, head, dialed, broken }: LaneEnd): Duplex {
  const frames = new FrameReader(!dialed);
  let whole = false;
  const send = (payload: Buffer, done: (error?: Error | null) => void) => {
    socket.cork();
    socket.write(frameHead(payload.length, dialed));
    socket.write(payload, done);
    socket.uncork();
  };
  const lane = new Duplex({
    readableHighWaterMark: HELD_BYTES,
    writableHighWaterMark: HELD_BYTES,
    read: () => socket.resume(),
    // An empty frame would mean the end.
    write: (chunk: Buffer, _encoding, done) => (chunk.length === 0 ? done() : send(chunk, done)),
    final: (done) => send(END, done),
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  const take = (data: Buffer) => {
    try {
      for (const piece of frames.read(data)) {
        whole ||= piece.length === 0;
        if (!lane.push(whole ? null : piece)) socket.pause();
      }
    } catch (error) {
      lane.destroy(broken(error as Error));
    }
  };
  lane.once('end', () => lane.destroy());
  lane.on('error', () => {});
  socket.on('data', take);
  socket.once('end', () => socket.destroy());
  socket.on('error', (error) => lane.destroy(broken(error)));
  socket.once('close', () => {
    if (!whole) lane.destroy(lane.writableFinished ? undefined : broken());
  });
  if (head.length > 0) take(head);
  return lane;
}

/** The answer to the WebSocket handshake of a lane (RFC 6455 §4.2.2). */
export function laneAccepted(key: string): string {
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  return `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`;
}
