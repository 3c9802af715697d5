import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import {
  ConcurrentUpdateError,
  LocalWorkspace,
  Stack,
  StackNotFoundError,
} from '@pulumi/pulumi/automation/index.js';
import { within } from './deadline.ts';
import type { Project } from './project.ts';
import type { Settings } from './settings.ts';

/** What no stack may be without: looked at before anything is written. */
const POLICIES = 'infra/policy';
const CALL_TIMEOUT_MS = 60_000;
/** Both may wait for machines, for images to be pushed, and for Fly to delete. */
const UPDATE_TIMEOUT_MS = 45 * 60_000;
/** Told to stop, Pulumi lets what is under way end, which has deadlines of its own. */
const STOPPING_MS = 6 * 60_000;

export interface Reporting {
  /** Told what Pulumi says, as it comes. */
  progress: (text: string) => void;
  /** Stops an update when aborted: what is under way ends, the rest is not begun. */
  signal: AbortSignal;
}

/**
 * A preview's stack. Pulumi writes a stack's settings beside the project file and notes there which stack is selected: so each preview
 * has a folder of its own below `.mobvibe/`, with a copy of the project file and links to the rest, and the project stays as it is.
 */
export class PreviewStackFolder {
  readonly #project: Project;
  readonly #name: string;
  readonly #folder: string;

  constructor(project: Project, name: string) {
    this.#project = project;
    this.#name = name;
    this.#folder = join(project.dir, '.mobvibe', 'preview', name);
  }

  /** Makes the stack where it is not there, with these settings and no other. */
  async configure(settings: Settings): Promise<void> {
    const workspace = await this.#lay();
    const config = Object.entries(settings).map(([key, value]) => [`${this.#project.name}:${key}`, value]);
    await workspace.saveStackSettings(this.#name, { config: Object.fromEntries(config) });
    await within(
      CALL_TIMEOUT_MS,
      `pulumi stack init ${this.#name}`,
      Stack.createOrSelect(this.#name, workspace),
    );
  }

  /** On standard input: the Automation API would put it on a command line. */
  async setSecret(key: string, value: string): Promise<void> {
    const args = ['config', 'set', '--secret', key, '--stack', this.#name, '--non-interactive'];
    const pulumi = spawn('pulumi', args, {
      cwd: this.#folder,
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: CALL_TIMEOUT_MS,
    });
    let errors = '';
    pulumi.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    // It may have ended without reading.
    pulumi.stdin.on('error', () => {}).end(value);
    const [code, signal] = await once(pulumi, 'close');
    if (code !== 0)
      throw new Error(`pulumi config set ${key} ended with ${signal ?? code}: ${errors.trim()}`);
  }

  /** Answers the controller's URL. */
  async up(reporting: Reporting): Promise<string> {
    const stack = await this.#select(await this.#workspace());
    const { outputs } = await this.#update('up', reporting, (options) =>
      stack.up({ ...options, policyPacks: [join(this.#project.dir, POLICIES)] }),
    );
    return String(outputs.controllerUrl?.value ?? '');
  }

  /** False where there is no such stack. The stack itself stays until `remove`. */
  async destroy(reporting: Reporting, { cancel }: { cancel: boolean }): Promise<boolean> {
    const workspace = await this.#lay();
    let stack: Stack;
    try {
      stack = await this.#select(workspace);
    } catch (error) {
      if (!(error instanceof StackNotFoundError)) throw error;
      await this.#clear();
      return false;
    }
    if (cancel) await within(CALL_TIMEOUT_MS, `pulumi cancel of ${this.#name}`, stack.cancel());
    await this.#update('destroy', reporting, (options) => stack.destroy(options));
    return true;
  }

  async remove(): Promise<void> {
    const workspace = await this.#workspace();
    await within(CALL_TIMEOUT_MS, `pulumi stack rm ${this.#name}`, workspace.removeStack(this.#name));
    await this.#clear();
  }

  async #lay(): Promise<LocalWorkspace> {
    await this.#clear();
    await mkdir(this.#folder, { recursive: true });
    await copyFile(join(this.#project.dir, 'Pulumi.yaml'), join(this.#folder, 'Pulumi.yaml'));
    // `.mobvibe`: where the images' contexts are written.
    for (const name of ['infra', '.mobvibe']) {
      await symlink(join(this.#project.dir, name), join(this.#folder, name));
    }
    return this.#workspace();
  }

  #clear = () => rm(this.#folder, { recursive: true, force: true });

  #workspace = () => LocalWorkspace.create({ workDir: this.#folder, pulumiCommand: this.#project.pulumi });

  #select = (workspace: LocalWorkspace) =>
    within(CALL_TIMEOUT_MS, `pulumi stack select ${this.#name}`, Stack.select(this.#name, workspace));

  async #update<T>(
    what: 'up' | 'destroy',
    { progress, signal }: Reporting,
    run: (options: {
      onOutput: (text: string) => void;
      onError: (text: string) => void;
      signal: AbortSignal;
    }) => Promise<T>,
  ): Promise<T> {
    const stop = AbortSignal.any([signal, AbortSignal.timeout(UPDATE_TIMEOUT_MS)]);
    const work = run({ onOutput: progress, onError: progress, signal: stop });
    try {
      return await within(UPDATE_TIMEOUT_MS + STOPPING_MS, `pulumi ${what} of ${this.#name}`, work);
    } catch (error) {
      if (error instanceof ConcurrentUpdateError) {
        throw new Error(
          `${this.#name} is locked by another update, or by one that was cut off. When none is running: npm run preview -- destroy --stack ${this.#name} --force`,
        );
      }
      // Its message repeats all that was said.
      throw new Error(`pulumi ${what} of ${this.#name} failed; what it said is above`, { cause: error });
    }
  }
}
