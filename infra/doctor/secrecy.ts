/** Shorter ones would be found in every word. */
const SHORTEST = 6;

/** What other programs and servers said, without what they may have repeated: these values, and user and password of any URL. */
export function hide(text: string, secrets: (string | undefined)[]): string {
  return secrets
    .filter((secret) => secret !== undefined && secret.length >= SHORTEST)
    .reduce<string>((hidden, secret) => hidden.replaceAll(secret!, '[hidden]'), text)
    .replace(/\/\/[^/\s@]+@/g, '//[hidden]@');
}
