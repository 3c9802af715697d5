import { createFlyClient, type FlyClient, FlyError } from '../../fly/index.ts';

/** Of every Fly resource. */
export interface AtFly {
  /** Base URL of the Machines API: `https://api.machines.dev`, or local Fly's. */
  endpoint: string;
}

const clients = new Map<string, FlyClient>();

/**
 * The Machines API with the token of this process: `FLY_API_TOKEN`, so that it is no input of a resource and gets
 * into no state, and a rotated one works for everything made before. One client for each endpoint as long as
 * the process lives: Fly's rate limits count across resources, and so must we. Idle connections keep no process
 * alive.
 */
export function flyAt(endpoint: string): FlyClient {
  const token = process.env.FLY_API_TOKEN;
  if (!token) throw new Error('FLY_API_TOKEN is not set; Pulumi needs it in its environment to speak to Fly');
  const known = clients.get(endpoint);
  if (known !== undefined) return known;
  const client = createFlyClient({ token, baseUrl: endpoint });
  clients.set(endpoint, client);
  return client;
}

/** What was asked for, or undefined when Fly says that it, or the app that it belongs to, is not there. */
export async function unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof FlyError && error.kind === 'not_found') return undefined;
    throw error;
  }
}

/** Whether the call may have had its effect, so that it is time to look. */
export function isInDoubt(error: unknown): boolean {
  return error instanceof FlyError && error.kind === 'unknown_outcome';
}
