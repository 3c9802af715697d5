import Type from 'typebox';
import { json } from '../answers.ts';
import type { ApiDeps } from '../deps.ts';
import { createReadiness } from '../readiness.ts';
import * as schemas from '../schemas.ts';
import type { Api } from '../types.ts';

/** The routes for whoever runs the controller. They need no key and tell nothing about sessions. */
export function platformRoutes(app: Api, { probes, metrics, clock }: ApiDeps): void {
  const tags = ['platform'];
  const security: [] = [];
  const readiness = createReadiness(probes, clock);

  app.get(
    '/healthz',
    {
      schema: {
        tags,
        security,
        summary: 'Whether the process is alive',
        response: json(schemas.Health, 'It is'),
      },
    },
    () => ({ status: 'ok' as const }),
  );

  app.get(
    '/readyz',
    {
      schema: {
        tags,
        security,
        summary:
          'Whether this controller can work: its database answers. What else is in trouble stands in `degraded`',
        response: {
          ...json(schemas.Readiness, 'It does'),
          ...json(schemas.Readiness, 'It does not', 503),
        },
      },
    },
    async (_request, reply) => {
      const state = await readiness();
      return reply.code(state.ready ? 200 : 503).send(state);
    },
  );

  app.get(
    '/metrics',
    {
      schema: {
        tags,
        security,
        summary: 'Metrics for Prometheus',
        response: {
          200: { description: 'Metrics', content: { 'text/plain': { schema: Type.String() } } },
        },
      },
    },
    async (_request, reply) =>
      reply
        .type(metrics.contentType)
        .serializer(String)
        .send(await metrics.metrics()),
  );

  app.get(
    '/openapi.json',
    {
      schema: {
        tags,
        security,
        summary: 'This document',
        response: json(Type.Unknown(), 'OpenAPI 3.1'),
      },
    },
    () => app.swagger(),
  );
}
