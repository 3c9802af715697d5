import type { Caller, CallOptions } from './call.ts';
import { path } from './path.ts';
import { GET_MACHINE } from './rate.ts';
import { machine, machines } from './replies.ts';
import type { Machine } from './types.ts';
import { checkApp, checkId } from './validate.ts';

export interface ListMachinesOptions extends CallOptions {
  /** Only machines with all of these. (Documented by Fly, though missing from its OpenAPI document.) */
  metadata?: Record<string, string>;
  /** Only machines in one of these states. */
  state?: string[];
  /** Destroyed ones, too. */
  includeDeleted?: boolean;
  /** Without config, checks, events and host status: much lighter for a full app. */
  summary?: boolean;
  region?: string;
}

export async function listMachines(
  caller: Caller,
  app: string,
  options: ListMachinesOptions,
): Promise<Machine[]> {
  checkApp('listMachines', app);
  const { metadata = {}, state, includeDeleted, summary, region } = options;
  const byMetadata = Object.entries(metadata).map(([key, value]) => [`metadata.${key}`, value] as const);
  return caller.call(
    {
      name: 'listMachines',
      effect: 'none',
      method: 'GET',
      path: path`/v1/apps/${app}/machines`,
      query: {
        state: state?.join(','),
        include_deleted: includeDeleted,
        summary,
        region,
        ...Object.fromEntries(byMetadata),
      },
      target: app,
      read: machines,
    },
    options,
  );
}

export async function getMachine(
  caller: Caller,
  app: string,
  id: string,
  options: CallOptions,
): Promise<Machine> {
  checkApp('getMachine', app);
  checkId('getMachine', id);
  return caller.call(
    {
      name: 'getMachine',
      effect: 'none',
      method: 'GET',
      path: path`/v1/apps/${app}/machines/${id}`,
      target: `${app}/${id}`,
      limit: GET_MACHINE,
      read: machine,
    },
    options,
  );
}
