import { appNameInvalid } from './errors.ts';
import { bodyObject, optionalString } from './json.ts';

export interface AppRequest {
  name: string;
  org_slug: string;
  network: string;
}

/** `POST /v1/apps`. The docs say `app_name`, spec and fly-go say `name`: both are taken. Throws 422 in Fly's words. */
export function parseAppRequest(body: unknown): AppRequest {
  const request = bodyObject(body, 'main.createAppRequest');
  const name = optionalString(request, 'app_name') ?? optionalString(request, 'name') ?? '';
  if (!/^[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?$/.test(name)) throw appNameInvalid();
  return {
    name,
    org_slug: optionalString(request, 'org_slug') ?? 'personal',
    network: optionalString(request, 'network') ?? 'default',
  };
}
