/** The Pulumi program of a stack: `pulumi up`. What it makes is in `platform.ts`, what can be set in docs/setup.md. */
import * as pulumi from '@pulumi/pulumi';
import { readStackConfig } from './config.ts';
import { Platform } from './platform.ts';

const config = readStackConfig();
const platform = new Platform('platform', { project: pulumi.getProject(), stack: pulumi.getStack(), config });

export const controllerUrl = platform.controller.url;
export const controllerApp = platform.controller.app;
export const controllerMachineIds = platform.controller.machines.map((machine) => machine.machineId);
export const controllerImage = platform.images.controller;
export const sandboxImage = platform.images.sandbox;
export const cells = platform.cells.cells;
export const schemaVersion = platform.database.schemaVersion;
/** `pulumi stack output apiKey --show-secrets`. */
export const apiKey = platform.database.apiKey;
export const expiresAt = config.expiresAt ?? 'never';
