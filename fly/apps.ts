import type { Caller, CallOptions } from './call.ts';
import { FlyError, flyError } from './errors.ts';
import { path } from './path.ts';
import { APP_DELETIONS } from './rate.ts';
import { listUnder, nothing, object, withText } from './replies.ts';
import type { App, CreateAppRequest, TokenInfo } from './types.ts';
import { checkApp, checkDuration, checkSegment } from './validate.ts';

/** Fly docs, "machines/api/apps-resource". */
export function appCalls(caller: Caller) {
  const getApp = async (app: string, options: CallOptions = {}): Promise<App> => {
    checkApp('getApp', app);
    return caller.call(
      {
        name: 'getApp',
        effect: 'none',
        method: 'GET',
        path: path`/v1/apps/${app}`,
        target: app,
        read: withText<App>('id'),
      },
      options,
    );
  };

  return {
    /** `auth` when the name exists in an organisation that the token can't see. */
    getApp,

    /**
     * Creates the app, or finds it where it is ours already: safe to repeat. Names are global, so the name
     * may be somebody else's: that, or an app of ours on another network than the one asked for, is a
     * `conflict` with reason `name_taken`. (Fly's advice in "blueprints/warm-pool-user-machines".)
     */
    async createApp(request: CreateAppRequest, options: CallOptions = {}): Promise<App> {
      const name = 'createApp';
      checkApp(name, request.name, 'name');
      if (request.network !== undefined) checkApp(name, request.network, 'network');
      checkSegment(name, request.org_slug, 'org_slug');
      try {
        const made = await caller.call(
          {
            name,
            // The unique name makes a second one impossible.
            effect: 'repeatable',
            method: 'POST',
            path: '/v1/apps',
            target: request.name,
            limitKey: name,
            // Fly's docs say `app_name`, its OpenAPI document and flyctl `name`; what it doesn't know it
            // ignores.
            body: { app_name: request.name, ...request },
            read: object<Partial<App>>,
          },
          options,
        );
        return { id: made.id ?? request.name, name: request.name, ...made };
      } catch (error) {
        if (!(error instanceof FlyError && error.reason === 'name_taken')) throw error;
        return ours(request, error, await getApp(request.name, options).catch(notSeen));
      }
    },

    async listApps(orgSlug: string, options: CallOptions = {}): Promise<App[]> {
      checkSegment('listApps', orgSlug, 'org_slug');
      return caller.call(
        {
          name: 'listApps',
          effect: 'none',
          method: 'GET',
          path: '/v1/apps',
          query: { org_slug: orgSlug },
          target: orgSlug,
          read: listUnder<App>('apps'),
        },
        options,
      );
    },

    /**
     * With all its machines and volumes when `force` is given. Resolves also when the app is already gone;
     * Fly deletes in the background.
     */
    async deleteApp(app: string, options: CallOptions & { force?: boolean } = {}): Promise<void> {
      checkApp('deleteApp', app);
      try {
        await caller.call(
          {
            name: 'deleteApp',
            effect: 'repeatable',
            method: 'DELETE',
            path: path`/v1/apps/${app}`,
            query: { force: options.force },
            target: app,
            limit: APP_DELETIONS,
            limitKey: 'deleteApp',
            read: nothing,
          },
          options,
        );
      } catch (error) {
        if (!(error instanceof FlyError && error.kind === 'not_found')) throw error;
      }
    },

    /**
     * A token for this app alone, valid for `expiry` (such as `24h`; Fly's own default would be 20 years).
     * Every call makes another one, so it is never repeated by itself.
     */
    async createDeployToken(app: string, expiry: string, options: CallOptions = {}): Promise<string> {
      checkApp('createDeployToken', app);
      checkDuration('createDeployToken', 'expiry', expiry);
      const { token } = await caller.call(
        {
          name: 'createDeployToken',
          effect: 'once',
          method: 'POST',
          path: path`/v1/apps/${app}/deploy_token`,
          target: app,
          body: { expiry },
          read: withText<{ token: string }>('token'),
        },
        options,
      );
      return token;
    },

    /** What the client's own token is good for: one entry for each token that it is made of. */
    async currentTokens(options: CallOptions = {}): Promise<TokenInfo[]> {
      return caller.call(
        {
          name: 'currentTokens',
          effect: 'none',
          method: 'GET',
          path: '/v1/tokens/current',
          target: 'tokens',
          read: listUnder<TokenInfo>('tokens'),
        },
        options,
      );
    },
  };
}

function ours(request: CreateAppRequest, taken: FlyError, found: App | undefined): App {
  const refuse = (why: string): never => {
    throw flyError('conflict', { ...taken, detail: `${taken.detail}; ${why}` });
  };
  if (found === undefined) return refuse('it can not be read with this token');
  const organisation = found.organization?.slug;
  if (organisation !== undefined && organisation !== request.org_slug) {
    return refuse(`it belongs to the organisation ${organisation}, not ${request.org_slug}`);
  }
  if (request.network !== undefined && found.network !== undefined && found.network !== request.network) {
    return refuse(`it is on the network ${found.network}, not ${request.network}`);
  }
  return found;
}

/** Not allowed or not there (yet): either way the app can't be shown to be ours. */
function notSeen(error: unknown): undefined {
  const hidden = error instanceof FlyError && (error.kind === 'auth' || error.kind === 'not_found');
  if (!hidden) throw error;
}
