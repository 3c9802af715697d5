import { execRoutes } from './exec/routes.ts';
import { ExecTable } from './exec/table.ts';
import { Beneath } from './files/beneath.ts';
import { fileRoutes } from './files/routes.ts';
import { Health } from './health.ts';
import { Router } from './http/router.ts';
import { Gate } from './seal/gate.ts';
import { pauseFor } from './seal/pause.ts';
import { sealRoutes } from './seal/routes.ts';
import { Seal } from './seal/seal.ts';
import type { Settings } from './settings.ts';
import { laneOpener } from './tunnel/lane.ts';
import { openUserSide } from './user/open.ts';
import { workspaceRoutes } from './workspace/routes.ts';
import { Workspace } from './workspace/workspace.ts';

export interface Sandbox {
  router: Router;
  /** Ends all execs: SIGTERM, and SIGKILL after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Puts together all that answers the controller. */
export async function openSandbox(
  settings: Settings,
  machineEnv: NodeJS.ProcessEnv,
  bootId: string,
): Promise<Sandbox> {
  const now = Date.now;
  const { stateDir, fence, restarted } = settings;
  const { side: user, processes } = await openUserSide(settings, machineEnv, now);
  const tree = new Beneath(settings.workspaceDir);
  const gate = new Gate();
  const execs = new ExecTable({ user, gate, stateDir, now, restarted });
  const seal = new Seal({ gate, processes, execs, stateDir, fence });
  const workspace = await Workspace.open({
    tree,
    stateDir,
    sandbox: settings.sandbox,
    owner: user.owner,
    proxy:
      settings.egressProxyUrl === undefined
        ? undefined
        : { url: settings.egressProxyUrl, token: settings.token },
    gate,
    quiet: pauseFor({ gate, processes, now }),
    now,
    random: Math.random,
  });
  const health = new Health({
    sandbox: settings.sandbox,
    bootId,
    tree,
    now,
    workspace: () => workspace.state,
    runningExecs: () => execs.running,
  });
  const router = new Router(laneOpener(settings.dialUrl, settings.token), gate.signal);
  router.on('GET', '/health', async (call) => call.reply(200, await health.check()));
  execRoutes(router, execs, gate);
  sealRoutes(router, seal);
  fileRoutes(router, tree, user.owner, gate);
  workspaceRoutes(router, workspace);
  return {
    router,
    close: async (graceMs) => {
      await execs.close(graceMs);
      await user.close();
    },
  };
}
