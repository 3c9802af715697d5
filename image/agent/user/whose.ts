import { isMarked, type Process, processes, statusOf } from './processes.ts';

/** Finds the processes of the user, those that live. */
export type Finder = () => Process[];

/** Where user code has a uid of its own: it can't get rid of that. */
export function ofUid(uid: number): Finder {
  return () => processes().filter(({ pid }) => statusOf(pid)('Uid').slice(0, 3).includes(String(uid)));
}

/**
 * Where user code has namespaces of its own: whoever is in a pid namespace below ours. Their first process and its children, which
 * belong to the agent, are told by their session: user code is in others, and there is no way into one.
 */
export function ofNamespaces(ownSession: () => number | undefined): Finder {
  const depth = statusOf('self')('NSpid').length;
  return () => {
    const own = ownSession();
    return processes().filter(({ pid, session }) => session !== own && statusOf(pid)('NSpid').length > depth);
  };
}

/** Where user code is nobody else: all that carry the mark, or descend from a process that does or that the agent gave a session. */
export function ofAgent(mark: string): Finder {
  return () => {
    const all = processes().filter(({ pid }) => pid !== process.pid);
    const family = new Set<number>();
    const sessions = new Set<number>();
    const belongs = ({ pid, parent, session }: Process) =>
      family.has(parent) ||
      sessions.has(session) ||
      (parent === process.pid && session === pid) ||
      isMarked(pid, mark);
    for (let before = -1; before !== family.size; ) {
      before = family.size;
      for (const each of all) {
        if (family.has(each.pid) || !belongs(each)) continue;
        family.add(each.pid);
        // One that the agent has not given it may be the agent's own.
        if (each.session === each.pid) sessions.add(each.session);
      }
    }
    return all.filter(({ pid }) => family.has(pid));
  };
}
