import { isCell, isFly, type Rule, type StackRule } from './resource.ts';

/** Nothing listens there: a rule for it closes the direction (infra/cells.ts). */
const NOBODYS_PORT = 9;

interface NetworkRule {
  action: string;
  direction: string;
  ports?: { protocol: string; port: number }[];
}

/** A cell's network is called as the cell is, so that two cells never share one, and nothing else is put on it. */
export const cellNetwork: Rule = (resource) => {
  if (!isFly('App', resource)) return [];
  const { name, network } = resource.props;
  if (isCell(name)) {
    return network === name
      ? []
      : [`${name} is on ${networkName(network)}: a cell has a network of its own, "${name}"`];
  }
  return isCell(network)
    ? [`${name} is on the network of the cell "${network}": only sandboxes may be there`]
    : [];
};

/** Sandboxes are reached by nobody, and what they say goes by the egress proxy. */
export const noPublicAddress: Rule = (resource) => {
  if (!isFly('IpAddress', resource)) return [];
  const { app, type } = resource.props;
  if (!isCell(app)) return [];
  return type === 'private_v6' ? [] : [`the cell ${app} is given a public address, ${type}`];
};

/** No policy of a cell lets anything in. Fly adds the rules of several, so each is looked at by itself. */
export const noIngress: Rule = (resource) => {
  if (!isFly('NetworkPolicy', resource)) return [];
  const { app, name, rules } = resource.props;
  if (!isCell(app)) return [];
  return (rules as NetworkRule[])
    .filter(({ direction }) => direction === 'ingress')
    .flatMap(({ ports = [] }) => ports)
    .filter(({ port }) => port !== NOBODYS_PORT)
    .map(({ protocol, port }) => `the policy "${name}" lets ${protocol} ${port} into the cell ${app}`);
};

/** A cell has a policy for all of its machines with a rule for each direction: without one, Fly lets everything pass in that direction. */
export const everyCellClosed: StackRule = (resources) => {
  const policies = resources.filter((resource) => isFly('NetworkPolicy', resource));
  return resources
    .filter((resource) => isFly('App', resource) && isCell(resource.props.name))
    .flatMap(({ props: { name } }) =>
      ['ingress', 'egress']
        .filter((direction) => !policies.some(({ props }) => props.app === name && closes(props, direction)))
        .map((direction) => `no network policy of the cell ${name} is for all its machines' ${direction}`),
    );
};

function closes({ selector, rules }: Record<string, unknown>, direction: string): boolean {
  const forAll = (selector as { all?: boolean } | undefined)?.all === true;
  return forAll && (rules as NetworkRule[]).some((rule) => rule.direction === direction);
}

function networkName(network: unknown): string {
  return network ? `the network "${network}"` : "the organisation's network";
}
