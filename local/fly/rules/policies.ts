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
