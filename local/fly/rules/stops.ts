import type { MachineConfig } from '../wire.ts';
import { parseConfigDuration } from './durations.ts';

export interface StopRequest {
  signal?: string;
  timeoutMs?: number;
}

export interface StopPlan {
  signal: string;
  /** SIGKILL follows then. */
  graceMs: number;
}

const defaultSignal = 'SIGINT';
const defaultGraceMs = 5_000;

/** The call's own wish, else the machine's `stop_config`, else Fly's defaults: SIGINT, and SIGKILL 5 s later. */
export function planStop(request: StopRequest, config: Pick<MachineConfig, 'stop_config'>): StopPlan {
  const configured = config.stop_config?.timeout;
  return {
    signal: request.signal ?? config.stop_config?.signal ?? defaultSignal,
    // fly-go sends "0s" when it means "as configured".
    graceMs: request.timeoutMs || parseConfigDuration(configured) || defaultGraceMs,
  };
}
