import type Docker from 'dockerode';
import { EngineError } from '../engine.ts';
import { type DockerClient, reasonOf, statusOf } from './client.ts';

/** A manifest is small; Fly's own create waits no longer. */
const RESOLVE_TIMEOUT_MS = 20_000;
const PULL_TIMEOUT_MS = 10 * 60_000;

const WORD = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
/** Registry, path, tag and digest, as Docker reads them (distribution, reference). */
const REFERENCE = new RegExp(
  `^(?:[a-zA-Z0-9][a-zA-Z0-9.-]*(?::[0-9]+)?/)?${WORD}(?:/${WORD})*(?::\\w[\\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`,
);

/** Images as Docker and its registries know them. */
export class Images {
  readonly #docker: DockerClient;
  readonly #closing: AbortSignal;
  readonly #pulls = new Map<string, Promise<void>>();

  /** `closing`: ends pulls. */
  constructor(docker: DockerClient, closing: AbortSignal) {
    this.#docker = docker;
    this.#closing = closing;
  }

  /**
   * The digest that a reference stands for now. The registry is asked, as Fly does; an image that only this Docker has, because it
   * was built here and never pushed, is taken as well, by its own id.
   */
  async resolve(image: string): Promise<{ digest: string } | { error: string }> {
    // It becomes part of a path of Docker's API.
    if (!REFERENCE.test(image)) return { error: 'invalid reference format' };
    const pinned = digestOf(image);
    if (pinned && (await this.#local(image))) return { digest: pinned };
    try {
      const abortSignal = AbortSignal.timeout(RESOLVE_TIMEOUT_MS);
      const { Descriptor } = await this.#docker.streams.getImage(image).distribution({ abortSignal });
      return { digest: Descriptor.digest };
    } catch (error) {
      const local = pinned ? undefined : await this.#local(image).catch(() => undefined);
      if (local) return { digest: local.Id };
      return { error: reasonOf(error) };
    }
  }

  /** Docker's id of exactly this image, pulled when it is not here. Throws `image_not_found`. */
  async obtain(image: string, digest: string): Promise<string> {
    const exact = `${repositoryOf(image)}@${digest}`;
    const known = (await this.#local(exact)) ?? (await this.#local(digest));
    if (known) return known.Id;
    try {
      await this.#pull(exact);
      return (await this.#docker.calls.getImage(exact).inspect()).Id;
    } catch (cause) {
      throw new EngineError('image_not_found', `The image ${exact} can't be pulled: ${reasonOf(cause)}`, {
        cause,
      });
    }
  }

  async #local(reference: string): Promise<Docker.ImageInspectInfo | undefined> {
    try {
      return await this.#docker.calls.getImage(reference).inspect();
    } catch (error) {
      if (statusOf(error) !== 404) throw error;
      return undefined;
    }
  }

  /** Once, for however many machines wait for it. */
  #pull(reference: string): Promise<void> {
    const pull = this.#pulls.get(reference) ?? this.#pullNow(reference);
    this.#pulls.set(reference, pull);
    void pull.catch(() => undefined).finally(() => this.#pulls.delete(reference));
    return pull;
  }

  async #pullNow(reference: string): Promise<void> {
    const { streams } = this.#docker;
    const abortSignal = AbortSignal.any([this.#closing, AbortSignal.timeout(PULL_TIMEOUT_MS)]);
    const progress = await streams.pull(reference, { abortSignal });
    await new Promise<void>((resolve, reject) => {
      streams.modem.followProgress(progress, (error) => (error ? reject(error) : resolve()));
    });
  }
}

/** `undefined` for a reference by tag. */
function digestOf(image: string): string | undefined {
  return /@(sha256:[0-9a-f]{64})$/.exec(image)?.[1];
}

/** Without tag and digest. */
function repositoryOf(image: string): string {
  const [path = ''] = image.split('@');
  const colon = path.lastIndexOf(':');
  return colon > path.lastIndexOf('/') ? path.slice(0, colon) : path;
}
