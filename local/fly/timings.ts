/** How long local Fly holds a machine in its passing states, in milliseconds, on top of what the engine itself takes. */
export interface Timings {
  /** `created` until boot begins: the image is fetched and unpacked. */
  prepareMs: number;
  /** `starting` until `started`. */
  bootMs: number;
  /** `suspending` until `suspended`. */
  suspendMs: number;
  /** `starting` until `started` for a suspended machine. */
  resumeMs: number;
  /** An exit until the next boot by the restart policy. */
  restartMs: number;
  /** `destroying` until `destroyed`. */
  destroyMs: number;
  /** How long GET still answers 200 for a destroyed machine before it answers 404. */
  destroyedVisibleMs: number;
}

/** For engines that run real machines: these take what they take. */
export const immediateTimings: Timings = {
  prepareMs: 0,
  bootMs: 0,
  suspendMs: 0,
  resumeMs: 0,
  restartMs: 0,
  destroyMs: 0,
  destroyedVisibleMs: 60_000,
};

/**
 * A small machine with a warm image on Fly: about 6 s from create to started (measured, 2026-09), of which the VM's own boot is
 * some 300 ms, and a few hundred for a resume (Fly docs, machines/overview and reference/suspend-resume).
 */
export const publishedTimings: Timings = {
  prepareMs: 5_700,
  bootMs: 300,
  suspendMs: 2_000,
  resumeMs: 300,
  restartMs: 1_000,
  destroyMs: 2_000,
  destroyedVisibleMs: 60_000,
};
