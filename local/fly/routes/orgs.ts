import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { orgMachineView } from '../machines/view.ts';
import { invalidArgument } from '../rules/errors.ts';
import { matches, parseListFilter } from '../rules/filters.ts';
import { page } from '../rules/pages.ts';
import { paramsOf, queryOf } from './request.ts';

export function orgRoutes(server: FastifyInstance, core: Core): void {
  server.get('/v1/orgs/:org/machines', { config: { action: 'org.machines' } }, async (request) => {
    const { org } = paramsOf(request);
    const { updated_after = '', limit, cursor } = queryOf(request);
    const count = limit === undefined ? undefined : Number(limit);
    if (count !== undefined && !(Number.isInteger(count) && count > 0)) {
      throw invalidArgument(`limit: "${limit}" is no number of machines`);
    }
    const filter = parseListFilter(request.query as Record<string, string>);
    const apps = new Set(
      core.apps
        .all()
        .filter((app) => app.org_slug === org)
        .map(({ name }) => name),
    );
    const records = (core.faults.takeList(undefined) ?? core.fleet.all().map(({ record }) => record)).filter(
      (record) => apps.has(record.app) && matches(filter, record) && record.updated_at > updated_after,
    );
    const { items, next } = page(records, { limit: count, cursor });
    return {
      machines: items.map(orgMachineView),
      next_cursor: next,
      last_machine_id: items.at(-1)?.id ?? '',
      last_updated_at: items.at(-1)?.updated_at ?? '',
      error_regions: [],
    };
  });
}
