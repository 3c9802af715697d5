import type * as command from '@pulumi/command';
import type * as pulumi from '@pulumi/pulumi';

interface Action {
  /** Name of the script in `actions/` that runs when the resource is made or its environment has changed. */
  up?: string;
  /** The one that runs when it is deleted. */
  delete?: string;
  environment: Record<string, pulumi.Input<string>>;
}

/**
 * The arguments of a command that runs one of our scripts. A delete runs what the *state* says, so the command line must stay as it
 * is from version to version and hold no path of this machine; what changes, and every secret, goes by the environment. Output of a
 * command is shown even where it is secret: our scripts print one line of JSON without any.
 */
export function action({ up, delete: del, environment }: Action): command.local.CommandArgs {
  return {
    ...(up === undefined ? {} : { create: run(up), update: run(up) }),
    ...(del === undefined ? {} : { delete: run(del) }),
    environment,
    // A large output of the last run would not fit the environment of the next.
    addPreviousOutputInEnv: false,
    logging: 'stderr',
  };
}

/** From the program's folder, where the engine starts its providers. */
function run(script: string): string {
  return `node actions/${script}.ts`;
}
