import { execRoutes } from './exec/routes.ts';
import { ExecTable } from './exec/table.ts';
import { Beneath } from './files/beneath.ts';
import { fileRoutes } from './files/routes.ts';
import { Health } from './health.ts';
import { Router } from './http/router.ts';
import { Gate } from './seal/gate.ts';
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
export async function openSandbox(settings: Settings, machineEnv: NodeJS.ProcessEnv): Promise<Sandbox> {
  const now = Date.now;
  const user = await openUserSide(settings, machineEnv);
  const tree = new Beneath(settings.workspaceDir);
  const execs = new ExecTable({ user, stateDir: settings.stateDir, now });
  const gate = new Gate();
  const workspace = await Workspace.open({
    tree,
    stateDir: settings.stateDir,
    sandbox: settings.sandbox,
    owner: user.owner,
    proxy:
      settings.egressProxyUrl === undefined
        ? undefined
        : { url: settings.egressProxyUrl, token: settings.token },
    gate,
    now,
    random: Math.random,
  });
  const health = new Health({
    sandbox: settings.sandbox,
    tree,
    now,
    workspace: () => workspace.state,
    runningExecs: () => execs.running,
  });
  const router = new Router(laneOpener(settings.dialUrl, settings.token));
  router.on('GET', '/health', async (call) => call.reply(200, await health.check()));
  execRoutes(router, execs);
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
