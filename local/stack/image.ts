import { createHash } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AGENT, bundle } from '../../image/bundle.ts';

export interface LocalImage {
  /** Pinned by digest, like every image the controller is given. */
  ref: string;
  /** Holds `agent.js`, which local Fly starts as `/opt/agent/agent.js`. */
  dir: string;
}

/** The sandbox image as the namespaces engine takes it: one folder with the agent bundled into one file. */
export async function buildLocalImage(imagesDir: string): Promise<LocalImage> {
  const agent = bundle(AGENT.entry);
  const digest = createHash('sha256').update(agent).digest('hex');
  const dir = join(imagesDir, digest.slice(0, 16));
  const staging = `${dir}.${process.pid}`;
  await mkdir(staging, { recursive: true });
  await writeFile(join(staging, AGENT.file), agent, { mode: 0o644 });
  // Another start may have put the same bytes there already: then theirs stay.
  await rename(staging, dir).catch(() => rm(staging, { recursive: true, force: true }));
  return {
    ref: `mobvibe.local/sandbox@sha256:${digest}`,
    dir,
  };
}
