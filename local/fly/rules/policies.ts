import type { MachineRecord, NetworkPolicy } from '../wire.ts';
import { invalidArgument } from './errors.ts';
import { isObject } from './json.ts';

/** Rules allow single ports, and nothing else can be said (Fly docs, guides-examples/network-policies). Throws 400. */
export function parsePolicyRules(rules: unknown): unknown[] {
  if (!Array.isArray(rules)) throw invalidArgument('rules: must be an array');
  for (const [index, rule] of rules.entries()) {
    const at = `rules[${index}]`;
    if (!isObject(rule)) throw invalidArgument(`${at}: must be an object`);
    if (rule.action !== 'allow')
      throw invalidArgument(`${at}.action: ${JSON.stringify(rule.action)} is not "allow"`);
    if (rule.direction !== 'ingress' && rule.direction !== 'egress') {
      throw invalidArgument(
        `${at}.direction: ${JSON.stringify(rule.direction)} is not one of ingress, egress`,
      );
    }
    for (const port of Array.isArray(rule.ports) ? rule.ports : []) {
      const isPort =
        isObject(port) && Number.isInteger(port.port) && ['tcp', 'udp'].includes(String(port.protocol));
      if (!isPort)
        throw invalidArgument(`${at}.ports: ${JSON.stringify(port)} is not {protocol: tcp|udp, port}`);
    }
  }
  return rules;
}

/**
 * The directions in which policies deny a machine anything: as soon as one rule exists for a direction, Fly drops all else in it
 * (Fly docs, guides-examples/network-policies). Ports are not told apart here: a direction with rules counts as denied altogether.
 */
export function deniedBy(
  policies: readonly NetworkPolicy[],
  machine: Pick<MachineRecord, 'id' | 'config'>,
): { deniesIngress: boolean; deniesEgress: boolean } {
  const rules = policies.filter(({ selector }) => selects(selector, machine)).flatMap(({ rules }) => rules);
  const has = (direction: string) => rules.some((rule) => isObject(rule) && rule.direction === direction);
  return { deniesIngress: has('ingress'), deniesEgress: has('egress') };
}

/** Every part of a selector must hold; any of the listed machines will do. */
function selects(
  selector: NetworkPolicy['selector'],
  { id, config }: Pick<MachineRecord, 'id' | 'config'>,
): boolean {
  const { machines, metadata } = selector;
  if (Array.isArray(machines) && !machines.some((machine) => isObject(machine) && machine.id === id))
    return false;
  if (!isObject(metadata)) return true;
  return Object.entries(metadata).every(([key, value]) => config.metadata?.[key] === value);
}
