/** `pulumi up --policy-pack infra/policy`. What each rule means, and its settings: docs/operations.md. */
import { PolicyPack, type ResourceValidationPolicy } from '@pulumi/policy';
import { cellNetwork, everyCellClosed, noIngress, noPublicAddress } from './cells.ts';
import { imageByDigest, type SizeLimits, sandboxesEnd, sizeWithinLimit } from './machines.ts';
import { type ProductionStacks, productionProtected } from './production.ts';
import type { Rule } from './resource.ts';

function each(name: string, description: string, rule: Rule): ResourceValidationPolicy {
  return {
    name,
    description,
    validateResource: (resource, report) => {
      for (const sentence of rule(resource)) report(sentence);
    },
  };
}

function eachWith<Limits extends object>(
  name: string,
  description: string,
  rule: Rule<Limits>,
  properties: NonNullable<ResourceValidationPolicy['configSchema']>['properties'],
): ResourceValidationPolicy {
  return {
    name,
    description,
    configSchema: { properties },
    validateResource: (resource, report) => {
      for (const sentence of rule(resource, resource.getConfig<Limits>())) report(sentence);
    },
  };
}

const texts = { type: 'array', items: { type: 'string' } } as const;

new PolicyPack('mobvibe', {
  enforcementLevel: 'mandatory',
  policies: [
    each('image-by-digest', 'Machines and sandboxes boot images by digest.', imageByDigest),
    each('cell-network', 'A cell is on a private network of its own.', cellNetwork),
    each('cell-ingress', 'Nothing comes into a cell.', noIngress),
    {
      name: 'cell-closed',
      description: "A network policy closes all of a cell's machines in both directions.",
      validateStack: ({ resources }, report) => {
        for (const sentence of everyCellClosed(resources)) report(sentence);
      },
    },
    each('cell-address', 'A cell has no public address.', noPublicAddress),
    each('sandbox-ends', 'A machine of a cell is gone when it ends.', sandboxesEnd),
    eachWith<SizeLimits>('machine-size', 'Machines and sandboxes are within the limits.', sizeWithinLimit, {
      maxCpus: { type: 'integer', minimum: 1, default: 4 },
      maxMemoryMb: { type: 'integer', minimum: 256, default: 4096 },
      cpuKinds: { ...texts, default: ['shared'] },
    }),
    eachWith<ProductionStacks>(
      'production-protected',
      'Apps of a production stack are protected.',
      productionProtected,
      { stacks: { ...texts, default: ['prod'] } },
    ),
  ],
});
