import { createHash } from 'node:crypto';
import { createFlyClient, durationSeconds, FlyError } from '../../fly/index.ts';
import { compare, type Difference } from './compare.ts';
import { type AtFly, flyAt, isInDoubt } from './fly.ts';

export interface DeployTokenInputs extends AtFly {
  /** The app that the token is limited to. A change replaces the token. */
  app: string;
  /**
   * How long it is valid, as Go writes durations, such as `720h`. After two thirds of that an `up` makes a new one. A
   * change replaces the token.
   */
  expiry: string;
  /** Any text; another one makes another token. */
  rotation?: string;
}

export interface DeployTokenOutputs extends DeployTokenInputs {
  /** Secret. */
  token: string;
  /** RFC 3339. */
  expiresAt: string;
}

export function diff(olds: DeployTokenOutputs, news: DeployTokenInputs, now = Date.now()): Difference {
  const asked = compare(olds, news, { replace: ['app', 'expiry', 'rotation'], update: ['endpoint'] });
  const isOld = now >= Date.parse(olds.expiresAt) - (durationSeconds(olds.expiry) * 1000) / 3;
  if (!isOld) return asked;
  return { ...asked, changes: true, replaces: [...asked.replaces, 'expiresAt'] };
}

export async function create(
  inputs: DeployTokenInputs,
  now = Date.now(),
): Promise<{ id: string; outs: DeployTokenOutputs }> {
  const mint = () => flyAt(inputs.endpoint).createDeployToken(inputs.app, inputs.expiry);
  const token = await mint().catch((error: unknown) => {
    if (!isInDoubt(error)) throw error;
    // A token whose answer was lost is in nobody's hands, and ends by itself.
    return mint();
  });
  const id = `${inputs.app}/${createHash('sha256').update(token).digest('hex').slice(0, 12)}`;
  const expiresAt = new Date(now + durationSeconds(inputs.expiry) * 1000).toISOString();
  return { id, outs: { ...inputs, token, expiresAt } };
}

/** Fly can't list tokens, but it says whether this one is still good. */
export async function read(
  id: string,
  props: DeployTokenOutputs,
): Promise<{ id?: string; props?: DeployTokenOutputs }> {
  const fly = createFlyClient({ token: props.token, baseUrl: props.endpoint });
  try {
    await fly.getApp(props.app);
  } catch (error) {
    const isVoid = error instanceof FlyError && (error.status === 401 || error.kind === 'not_found');
    if (isVoid) return {};
    throw error;
  } finally {
    fly.close();
  }
  return { id, props };
}

/** Only where Fly is asked can change without another token. */
export function update(
  olds: DeployTokenOutputs,
  { endpoint }: DeployTokenInputs,
): { outs: DeployTokenOutputs } {
  return { outs: { ...olds, endpoint } };
}
