import type { MachineCheck, MachineService } from '../wire.ts';
import { parseConfigDuration } from './durations.ts';
import { invalidArgument, unsupported } from './errors.ts';
import {
  isObject,
  type JsonObject,
  optionalInteger,
  optionalObject,
  optionalString,
  optionalStrings,
} from './json.ts';

/** `config.services`: TCP alone, each port by itself. Throws 400 for a wrong value and 501 for what local Fly cannot honour. */
export function parseServices(config: JsonObject): MachineService[] | undefined {
  const services = config.services;
  if (services === undefined || services === null) return undefined;
  if (!Array.isArray(services)) throw invalidArgument('config.services is not a list');
  return services.map((service, index) => {
    const at = `config.services[${index}]`;
    if (!isObject(service)) throw invalidArgument(`${at} is not an object`);
    if ((optionalString(service, 'protocol') ?? 'tcp') !== 'tcp') throw unsupported(`${at}.protocol "udp"`);
    if (service.autostop && service.autostop !== 'off') throw unsupported(`${at}.autostop`);
    if (Array.isArray(service.checks) && service.checks.length > 0) throw unsupported(`${at}.checks`);
    const ports = Array.isArray(service.ports) ? service.ports : [];
    return {
      protocol: 'tcp',
      internal_port: parsePort(service, 'internal_port', at),
      ports: ports.map((port, number) => {
        if (!isObject(port)) throw invalidArgument(`${at}.ports[${number}] is not an object`);
        const handlers = optionalStrings(port, 'handlers');
        return { port: parsePort(port, 'port', `${at}.ports[${number}]`), ...(handlers && { handlers }) };
      }),
    };
  });
}

/** `config.checks`: by TCP or HTTP. */
export function parseChecks(config: JsonObject): Record<string, MachineCheck> | undefined {
  const checks = optionalObject(config, 'checks');
  if (checks === undefined) return undefined;
  return Object.fromEntries(
    Object.entries(checks).map(([name, check]) => [name, parseCheck(check, `config.checks.${name}`)]),
  );
}

function parseCheck(check: unknown, at: string): MachineCheck {
  if (!isObject(check)) throw invalidArgument(`${at} is not an object`);
  const type = optionalString(check, 'type');
  if (type !== 'tcp' && type !== 'http')
    throw invalidArgument(`${at}.type: "${type}" is not one of tcp, http`);
  if (optionalString(check, 'protocol') === 'https') throw unsupported(`${at}.protocol "https"`);
  const times = Object.entries({ interval: check.interval, timeout: check.timeout }).filter(
    ([, value]) => value !== undefined && value !== null,
  );
  for (const [field, value] of times) {
    if (parseConfigDuration(value) === null)
      throw invalidArgument(`${at}.${field}: ${JSON.stringify(value)} is not a duration`);
  }
  return {
    type,
    port: parsePort(check, 'port', at),
    ...(type === 'http' && { path: optionalString(check, 'path') ?? '/' }),
    ...Object.fromEntries(times),
  };
}

function parsePort(object: JsonObject, field: string, at: string): number {
  const port = optionalInteger(object, field);
  if (port === undefined || port < 1 || port > 65_535)
    throw invalidArgument(`${at}.${field}: ${port} is not a port`);
  return port;
}
