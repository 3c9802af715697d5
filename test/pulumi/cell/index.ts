/** A program of a test: one cell whose network can be set. In ours it is the name of the stack's, and never changes. */
import * as command from '@pulumi/command';
import * as pulumi from '@pulumi/pulumi';
import { action } from '../../../infra/action.ts';
import { cellRules } from '../../../infra/cells.ts';
import { App } from '../../../infra/resources/app.ts';
import { DeployToken } from '../../../infra/resources/deploy-token.ts';
import { NetworkPolicy } from '../../../infra/resources/network-policy.ts';
import { Secrets } from '../../../infra/resources/secrets.ts';

const config = new pulumi.Config('mobvibe');
const endpoint = config.require('flyApiUrl');
const cell = new App('cell', {
  endpoint,
  org: config.require('flyOrg'),
  name: 'cell',
  network: config.require('network'),
});
const inCell = { deletedWith: cell };
const policy = new NetworkPolicy(
  'policy',
  { endpoint, app: cell.name, name: 'sandboxes', rules: cellRules([8081]) },
  inCell,
);
const { token } = new DeployToken('token', { endpoint, app: cell.name, expiry: '24h', rotation: '' }, inCell);
new command.local.Command(
  'reap',
  action({ delete: 'reap', environment: { FLY_FLAPS_BASE_URL: endpoint, MOBVIBE_REAP_APP: cell.name } }),
  { dependsOn: [cell, policy] },
);
const controller = new App('controller', { endpoint, org: config.require('flyOrg'), name: 'controller' });
new Secrets(
  'secrets',
  { endpoint, app: controller.name, values: { FLY_API_TOKEN: token } },
  { deletedWith: controller },
);
