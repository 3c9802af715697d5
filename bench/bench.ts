import type { MobVibe } from '../client/index.ts';
import type { Stack } from '../local/stack/stack.ts';

/** What a bench is given: a local stack of its own, and a way to tell how it goes. */
export interface Bench {
  mobvibe: MobVibe;
  stack: Stack;
  say(line: string): void;
}
