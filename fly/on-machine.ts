import type { Caller, CallOptions, CallSpec } from './call.ts';
import { path } from './path.ts';
import { checkApp, checkId } from './validate.ts';

/** Of calls that somebody else's lease stands in the way of. */
export interface ChangeOptions extends CallOptions {
  /** Of the lease that the caller holds. */
  nonce?: string | undefined;
}

/** Sends calls on one machine: `/v1/apps/{app}/machines/{id}` and what stands under it. */
export function onMachine(caller: Caller) {
  return async <T>(
    app: string,
    id: string,
    spec: Omit<CallSpec<T>, 'path' | 'target' | 'headers'> & { under?: string },
    options: ChangeOptions,
  ): Promise<T> => {
    checkApp(spec.name, app);
    checkId(spec.name, id);
    const { under = '', ...rest } = spec;
    const headers: Record<string, string> =
      options.nonce === undefined ? {} : { 'fly-machine-lease-nonce': options.nonce };
    const machinePath = path`/v1/apps/${app}/machines/${id}`;
    return caller.call({ ...rest, path: machinePath + under, target: `${app}/${id}`, headers }, options);
  };
}
