import type { Api } from './types.ts';

/** One line for each request. Paths and query strings can hold names of files, so only the route and the ids are written. */
export function logRequests(app: Api): void {
  app.addHook('onRequest', (request, reply, done) => {
    reply.raw.once('close', () => {
      const failed = reply.statusCode >= 500;
      request.log[failed ? 'warn' : 'info'](
        {
          method: request.method,
          route: request.routeOptions.url,
          params: request.params,
          status: reply.statusCode,
          key: request.caller?.id,
          code: request.errorCode ?? undefined,
          complete: reply.raw.writableFinished,
          ms: Math.round(reply.elapsedTime),
        },
        'request',
      );
    });
    done();
  });
}
