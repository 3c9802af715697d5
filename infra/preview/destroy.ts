import { type PreviewApps, sweep } from './apps.ts';
import type { Project } from './project.ts';
import { PreviewStackFolder, type Reporting } from './stack.ts';

export interface DestroyRequest {
  project: Project;
  stack: string;
  apps: PreviewApps;
  /** Break the lock of another update first. */
  cancel: boolean;
  reporting: Reporting;
}

export interface DestroyResult {
  stack: string;
  /** False where there was no such stack: safe to repeat. */
  destroyed: boolean;
  /** Apps that the state did not know. */
  swept: string[];
}

/** Everything of a preview, and then its stack: as long as anything is left the stack stays, for another try. */
export async function destroy(request: DestroyRequest): Promise<DestroyResult> {
  const { project, stack, apps, cancel, reporting } = request;
  const folder = new PreviewStackFolder(project, stack);
  if (!(await folder.destroy(reporting, { cancel }))) return { stack, destroyed: false, swept: [] };
  const swept = await sweep(apps, stack);
  await folder.remove();
  return { stack, destroyed: true, swept };
}
