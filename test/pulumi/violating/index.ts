/** A program that breaks every policy but that of production; `policy.test.ts` runs it in place of `infra/`. */
import * as pulumi from '@pulumi/pulumi';
import { App } from '../../../infra/resources/app.ts';
import { IpAddress } from '../../../infra/resources/ip-address.ts';
import { Machine } from '../../../infra/resources/machine.ts';
import { NetworkPolicy } from '../../../infra/resources/network-policy.ts';

const endpoint = new pulumi.Config().require('flyApiUrl');
const org = 'personal';
const stack = pulumi.getStack();

const cell = new App('cell-1', { endpoint, org, name: `mobvibe-${stack}-cell-1` });
new App('beside', { endpoint, org, name: `mobvibe-${stack}-beside`, network: `mobvibe-${stack}-cell-1` });
new IpAddress('address', { endpoint, app: cell.name, type: 'shared_v4' });
new NetworkPolicy('policy', {
  endpoint,
  app: cell.name,
  name: 'debug',
  rules: [{ action: 'allow', direction: 'ingress', ports: [{ protocol: 'tcp', port: 22 }] }],
});
new Machine('machine', {
  endpoint,
  app: cell.name,
  name: 'keeper',
  region: 'sjc',
  config: {
    image: 'registry.fly.io/test:latest',
    // A secret: policies are given it in the clear, and must not show it.
    env: { PASSWORD: pulumi.secret('canary-of-the-policies') },
    guest: { cpus: 16, memory_mb: 32_768 },
    restart: { policy: 'always' },
  },
});
