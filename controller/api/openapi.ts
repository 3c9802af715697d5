import type { SwaggerOptions } from '@fastify/swagger';
import { PUBLIC_ROUTES } from './auth.ts';

/** What the generated OpenAPI document says besides the routes. */
export function describeApi(): SwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'MobVibe Sandboxes',
        version: '1',
        description: `An isolated computer per coding session. Errors are problem details (RFC 9457) with a stable \`code\`. All routes need an API key but ${[...PUBLIC_ROUTES].join(', ')}.`,
      },
      components: {
        securitySchemes: { apiKey: { type: 'http', scheme: 'bearer', description: '`mvk_…`' } },
      },
      security: [{ apiKey: [] }],
    },
  };
}
