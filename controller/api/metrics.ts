import type { FastifyInstance } from 'fastify';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** Measures every request by its route, never by its URL: ids and paths would make a series each. */
export function measureRequests(app: FastifyInstance, registry: Registry): void {
  const registers = [registry];
  const seconds = new Histogram({
    name: 'mobvibe_http_request_seconds',
    help: 'Time until the answer was sent completely; streams last as long as what they follow',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.002, 0.005, 0.01, 0.05, 0.25, 1, 5, 30, 120],
    registers,
  });
  const open = new Gauge({
    name: 'mobvibe_http_requests_open',
    help: 'Requests and streams being answered now',
    registers,
  });
  const errors = new Counter({
    name: 'mobvibe_http_errors_total',
    help: 'Error answers by code',
    labelNames: ['code'] as const,
    registers,
  });

  app.addHook('onRequest', (request, reply, done) => {
    open.inc();
    // Unlike the onResponse hook this is also told when the client went away.
    reply.raw.once('close', () => {
      open.dec();
      const route = request.routeOptions.url ?? 'unknown';
      seconds.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1_000);
      if (request.errorCode !== null) errors.inc({ code: request.errorCode });
    });
    done();
  });
}
