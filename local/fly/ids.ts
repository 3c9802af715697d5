import type { Clock } from './clock.ts';

export interface Ids {
  /** 14 hex digits, as Fly's machine ids. */
  machine(): string;
  /** 26 characters; every one sorts after all made before it. Used for events, versions and requests. */
  ulid(): string;
  /** `length` hex digits. */
  hex(length: number): string;
}

const crockford = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** Ids that depend on nothing but `clock` and `random` (in [0, 1)), so that a seeded test sees the same ones again. */
export function createIds(clock: Clock, random: () => number): Ids {
  let lastTime = -1;
  let entropy = 0n;

  function hex(length: number): string {
    let text = '';
    while (text.length < length) text += Math.floor(random() * 16).toString(16);
    return text;
  }

  return {
    hex,
    machine: () => hex(14),
    ulid() {
      const time = Math.max(clock.now(), lastTime);
      entropy = time === lastTime ? entropy + 1n : BigInt(`0x${hex(19)}`);
      lastTime = time;
      return encodeBase32((BigInt(time) << 80n) | entropy, 26);
    },
  };
}

function encodeBase32(value: bigint, length: number): string {
  let text = '';
  let rest = value;
  for (let i = 0; i < length; i++) {
    text = crockford[Number(rest & 31n)] + text;
    rest >>= 5n;
  }
  return text;
}
