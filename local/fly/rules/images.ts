import type { ImageRef } from '../wire.ts';

/** The parts of an image reference, with the digest that the engine resolved it to. */
export function imageRef(image: string, digest: string): ImageRef {
  const [path = ''] = image.split('@');
  const slash = path.indexOf('/');
  const head = path.slice(0, slash);
  // Docker's rule: the first part is a registry only when it looks like a host name.
  const hasRegistry = slash > 0 && (head.includes('.') || head.includes(':') || head === 'localhost');
  const rest = hasRegistry ? path.slice(slash + 1) : path;
  const colon = rest.lastIndexOf(':');
  const tag = colon > 0 ? rest.slice(colon + 1) : undefined;
  return {
    registry: hasRegistry ? head : 'docker.io',
    repository: colon > 0 ? rest.slice(0, colon) : rest,
    ...(tag ? { tag } : {}),
    digest,
    labels: {},
  };
}
