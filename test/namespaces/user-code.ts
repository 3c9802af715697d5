import type { RemoteMachine } from './remote-engine.ts';

const PLAIN = [
  '--reuid=1000',
  '--regid=1000',
  '--clear-groups',
  '--no-new-privs',
  '--bounding-set=-all',
  '--inh-caps=-all',
];

/** What the agent does where the machine has a single id: namespaces without its folders, then a user of their own. */
const NESTED = `
  for dir in /run/mobvibe /var/lib/mobvibe; do mount -t tmpfs -o size=4k,mode=000 tmpfs $dir; done
  mount -t proc -o nosuid,nodev,noexec proc /proc
  exec unshare --user --map-user=1000 --map-group=1000 setpriv --no-new-privs "$@"`;

/** Runs a shell script in the way that user code is run; gives what it prints, both streams together, and its code. */
export async function asUser(
  machine: RemoteMachine,
  script: string,
): Promise<{ said: string; code: number }> {
  const command = ['env', '-i', 'PATH=/usr/bin:/usr/sbin', 'sh', '-c', `exec 2>&1; cd /workspace; ${script}`];
  const result = await machine.exec(
    machine.hasSingleUser
      ? [
          'unshare',
          '--mount',
          '--pid',
          '--ipc',
          '--fork',
          '--kill-child',
          'sh',
          '-ec',
          NESTED,
          'x',
          ...command,
        ]
      : ['setpriv', ...PLAIN, ...command],
  );
  return { said: result.stdout.trim() + result.stderr.trim(), code: result.exit_code };
}
