import type { FastifyInstance } from 'fastify';

const STALLED_MS = 60_000;

/**
 * Gives up a request whose client has stopped sending its body for one to two minutes: nothing else would end it. A body that waits for
 * us, say for a command to read its input, is not the client's fault and may wait.
 */
export function giveUpStalled(app: FastifyInstance): void {
  app.addHook('onRequest', ({ raw, headers }, reply, done) => {
    if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) return done();
    let seen = raw.socket.bytesRead;
    const look = setInterval(() => {
      // Node takes the socket away from a request whose client has left.
      const now = raw.socket?.bytesRead ?? seen;
      if (now === seen && raw.readableLength === 0 && !raw.complete) raw.destroy();
      seen = now;
    }, STALLED_MS).unref();
    reply.raw.once('close', () => clearInterval(look));
    done();
  });
}
