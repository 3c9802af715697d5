import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { readDocument } from '../graphql/document.ts';
import { organizationNode } from '../graphql/nodes.ts';
import { knownFields, mayKnowOrg, operations } from '../graphql/operations.ts';
import { FlyError, invalidArgument, orgForbidden, unsupported } from '../rules/errors.ts';
import { bodyObject, optionalObject, optionalString } from '../rules/json.ts';
import { paramsOf } from './request.ts';

/** Fly's older API, as far as flyctl needs it for what local Fly has (`FLY_API_BASE_URL`, and `FLY_UIEX_BASE_URL` for the last route). */
export function graphqlRoutes(server: FastifyInstance, core: Core): void {
  server.post('/graphql', { config: { checksReach: true } }, async (request) => {
    const body = bodyObject(request.body, 'graphql.Request');
    try {
      const asked = readDocument(optionalString(body, 'query') ?? '');
      if (asked === null) throw invalidArgument('query: no GraphQL document');
      const operation = operations[asked.field];
      if (operation === undefined) throw unsupported(`the GraphQL operation "${asked.field}"`);
      const unknown = asked.below.find((field) => !knownFields.has(field));
      if (unknown !== undefined) throw unsupported(`"${unknown}" of the GraphQL operation "${asked.field}"`);
      const data = await operation(core, request.reach, optionalObject(body, 'variables') ?? {});
      return { data: { [asked.as]: data } };
    } catch (error) {
      // GraphQL has no status codes.
      if (error instanceof FlyError) return { data: null, errors: [{ message: error.message }] };
      throw error;
    }
  });

  server.get('/api/v1/organizations/:org', { config: { checksReach: true } }, async (request) => {
    const { org } = paramsOf(request);
    if (!mayKnowOrg(core, request.reach, org)) throw orgForbidden(org);
    const { id, slug, rawSlug, name, type, billable, paidPlan } = organizationNode(org);
    const plan = { billable, paid_plan: paidPlan, billing_status: 'CURRENT' };
    return {
      organization: {
        ...{ id, internal_numeric_id: 1, slug, raw_slug: rawSlug, name, personal: type === 'PERSONAL' },
        ...plan,
      },
    };
  });
}
