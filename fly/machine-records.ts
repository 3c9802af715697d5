import type { Caller, CallOptions } from './call.ts';
import { gone } from './gone.ts';
import { type ChangeOptions, onMachine } from './on-machine.ts';
import { path } from './path.ts';
import { list, nothing, object, withText } from './replies.ts';
import type { Lease, MachineEvent } from './types.ts';
import { checkInteger, checkSegment } from './validate.ts';

/** What is kept beside a machine: its lease, its metadata, its events. */
export function machineRecordCalls(caller: Caller) {
  const send = onMachine(caller);

  return {
    /**
     * Takes the lease for `ttlSeconds`, or prolongs it when `nonce` is that of the caller's own. Never
     * repeated by itself: a lost answer leaves a lease behind whose nonce nobody knows, until it ends.
     */
    async acquireLease(
      app: string,
      id: string,
      lease: { ttlSeconds: number; description?: string },
      options: ChangeOptions = {},
    ): Promise<Lease> {
      checkInteger('acquireLease', 'ttlSeconds', lease.ttlSeconds, 1, 86_400);
      const body = { ttl: lease.ttlSeconds, description: lease.description };
      const spec = {
        name: 'acquireLease',
        action: 'lease',
        effect: 'once',
        method: 'POST',
        under: '/lease',
      } as const;
      return send(app, id, { ...spec, body, read: leaseData }, options);
    },

    /** `not_found` when nobody holds one. */
    getLease: (app: string, id: string, options: CallOptions = {}): Promise<Lease> =>
      send(
        app,
        id,
        {
          name: 'getLease',
          action: 'lease',
          effect: 'none',
          method: 'GET',
          under: '/lease',
          read: leaseData,
        },
        options,
      ),

    /** Resolves also when there is no lease any more. */
    async releaseLease(app: string, id: string, nonce: string, options: CallOptions = {}): Promise<void> {
      const spec = {
        name: 'releaseLease',
        action: 'lease',
        effect: 'repeatable',
        method: 'DELETE',
        under: '/lease',
      } as const;
      return gone(send(app, id, { ...spec, read: nothing }, { ...options, nonce }));
    },

    /** All of a machine's metadata. */
    getMetadata: (app: string, id: string, options: CallOptions = {}): Promise<Record<string, string>> =>
      send(
        app,
        id,
        {
          name: 'getMetadata',
          action: 'metadata',
          effect: 'none',
          method: 'GET',
          under: '/metadata',
          read: object<Record<string, string>>,
        },
        options,
      ),

    /** Makes no new version and restarts nothing. */
    async setMetadata(
      app: string,
      id: string,
      key: string,
      value: string,
      options: ChangeOptions = {},
    ): Promise<void> {
      checkSegment('setMetadata', key, 'key');
      const spec = {
        name: 'setMetadata',
        action: 'metadata',
        effect: 'repeatable',
        method: 'POST',
        read: nothing,
      } as const;
      return send(app, id, { ...spec, under: path`/metadata/${key}`, body: { value } }, options);
    },

    /** Resolves also when the key was not there. */
    async deleteMetadata(app: string, id: string, key: string, options: ChangeOptions = {}): Promise<void> {
      checkSegment('deleteMetadata', key, 'key');
      const spec = {
        name: 'deleteMetadata',
        action: 'metadata',
        effect: 'repeatable',
        method: 'DELETE',
        read: nothing,
      } as const;
      return gone(send(app, id, { ...spec, under: path`/metadata/${key}` }, options));
    },

    /** Newest first; `limit` 1 to 50, default 20. An exit's event says how the machine ended. */
    async listEvents(
      app: string,
      id: string,
      options: CallOptions & { limit?: number } = {},
    ): Promise<MachineEvent[]> {
      if (options.limit !== undefined) checkInteger('listEvents', 'limit', options.limit, 1, 50);
      const spec = { name: 'listEvents', effect: 'none', method: 'GET', under: '/events' } as const;
      return send(app, id, { ...spec, query: { limit: options.limit }, read: list<MachineEvent> }, options);
    },
  };
}

function leaseData(body: unknown): Lease {
  return withText<Lease>('nonce')(object<{ data?: unknown }>(body).data);
}
