import type * as pulumi from '@pulumi/pulumi';
import type { Cell } from './cells.ts';
import type { App } from './resources/app.ts';
import { IpAddress } from './resources/ip-address.ts';

/** A private address of the app on the network of each cell: so the cells' machines reach it, and nobody else does. */
export function flycast(
  name: string,
  parent: pulumi.Resource,
  { endpoint, app, cells }: { endpoint: string; app: App; cells: Cell[] },
): void {
  for (const [index, { network }] of cells.entries()) {
    new IpAddress(
      `${name}-flycast-${index + 1}`,
      { endpoint, app: app.name, type: 'private_v6', network },
      { parent, deletedWith: app },
    );
  }
}
