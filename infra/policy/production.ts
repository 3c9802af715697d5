import { isFly, type Rule, stackOf } from './resource.ts';

export interface ProductionStacks {
  /** By name. */
  stacks: string[];
}

/** An app takes everything in it along when it is deleted. */
export const productionProtected: Rule<ProductionStacks> = (resource, { stacks }) => {
  if (!isFly('App', resource) || !stacks.includes(stackOf(resource)) || resource.opts.protect) return [];
  return [
    `${resource.props.name} of the production stack ${stackOf(resource)} is not protected: pulumi config set protect true`,
  ];
};
