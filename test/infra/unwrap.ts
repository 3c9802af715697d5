/** Marks the wrapper in which a secret crosses to Pulumi's engine. */
const SECRET = '4dabf18193072939515e22adb298388d';

/** What a resource was given, as the mocks see it: each secret becomes what `show` makes of its value. */
export function unwrap(value: unknown, show: (secret: unknown) => unknown = (secret) => secret): unknown {
  if (Array.isArray(value)) return value.map((one) => unwrap(one, show));
  if (typeof value !== 'object' || value === null) return value;
  if (SECRET in value) return show(unwrap((value as unknown as { value: unknown }).value, show));
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, unwrap(inner, show)]));
}
