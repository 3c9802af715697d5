import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cgroupName } from '../../local/fly/namespaces/hierarchies.ts';
import { asEveryUser, TestHost } from './every-user.ts';
import { cgroupsOf, mountsBelow, Namespaces } from './leftovers.ts';
import { asUser } from './user-code.ts';

asEveryUser((host) => {
  describe('leaves nothing behind', () => {
    const expectNothing = async (namespaces: Namespaces, stateDir: string) => {
      expect(namespaces.names.size).toBeGreaterThan(0);
      await expect.poll(() => namespaces.processes(), { timeout: 10_000 }).toEqual([]);
      expect(mountsBelow(stateDir)).toEqual([]);
      namespaces.letGo();
    };

    test('of ten machines when it is closed', async () => {
      const own = await host().startEngine('closed');
      const machines = await Promise.all(Array.from({ length: 10 }, () => own.machine(TestHost.newId())));
      const namespaces = Namespaces.below(own.child.pid!);
      expect(await Promise.all(machines.map((machine) => machine.sh('hostname')))).toEqual(
        machines.map(({ id }) => id),
      );
      await own.close();
      expect(namespaces.processes()).toEqual([]);
      await expectNothing(namespaces, host().stage.dir);
      expect(cgroupsOf(cgroupName(host().stateDir('closed')))).toEqual([]);
    });

    test('when it is killed, but empty folders, and its next start removes those', async () => {
      const stateDir = host().stateDir('killed');
      const own = await host().startEngine('killed');
      const machines = await Promise.all([own.machine(TestHost.newId()), own.machine(TestHost.newId())]);
      for (const machine of machines) {
        await asUser(
          machine,
          'touch /workspace/f; mkdir -m 000 /workspace/closed; setsid sleep 999 >/dev/null 2>&1 </dev/null &',
        );
        await machine.exec(['sh', '-c', '(setsid sleep 999 >/dev/null 2>&1 </dev/null &)']);
      }
      const namespaces = Namespaces.below(own.child.pid!);
      await own.die();
      await expectNothing(namespaces, stateDir);
      const again = await host().startEngine('killed');
      expect(readdirSync(join(stateDir, 'machines'))).toEqual([]);
      expect(
        cgroupsOf(cgroupName(stateDir)).filter((path) => machines.some(({ id }) => path.includes(id))),
      ).toEqual([]);
      await again.close();
    });

    test('when it is killed while machines boot', async () => {
      const own = await host().startEngine('booting');
      const boots = Array.from({ length: 4 }, () => own.machine(TestHost.newId()));
      for (const boot of boots) boot.catch(() => undefined);
      await boots[0];
      const namespaces = Namespaces.below(own.child.pid!);
      await own.die();
      await expectNothing(namespaces, host().stateDir('booting'));
      // The next engine removes what is left of another one's cgroups, too.
      const other = await host().startEngine('other');
      expect(cgroupsOf(cgroupName(host().stateDir('booting')))).toEqual([]);
      await other.close();
    });
  });
});
