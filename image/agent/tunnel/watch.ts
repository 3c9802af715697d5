import type WebSocket from 'ws';

const PING_EVERY_MS = 5_000;
const SILENCE_LIMIT_MS = 15_000;

/** Ends a socket whose peer has said nothing for 15 s: a half-open link would look healthy for hours. */
export function watch(socket: WebSocket, now: () => number): void {
  let heard = now();
  const hear = () => {
    heard = now();
  };
  socket.on('message', hear);
  socket.on('ping', hear);
  socket.on('pong', hear);
  const timer = setInterval(() => {
    if (now() - heard > SILENCE_LIMIT_MS) socket.terminate();
    else if (socket.readyState === socket.OPEN) socket.ping();
  }, PING_EVERY_MS);
  socket.once('close', () => clearInterval(timer));
}
