/** The resources that the program is made of, beside those of `@pulumi/command` and `@pulumi/docker`. */
export * from './api-key.ts';
export * from './app.ts';
export * from './deploy-token.ts';
export * from './ip-address.ts';
export * from './machine.ts';
export * from './network-policy.ts';
export * from './random-secret.ts';
export * from './secrets.ts';
