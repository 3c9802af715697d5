import { readFileSync } from 'node:fs';

/**
 * How often the kernel killed a process for memory: in the machine where /proc/vmstat is the machine's own, on the whole
 * host where it isn't. 0 where it can't be read.
 */
export function countOomKills(): number {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
