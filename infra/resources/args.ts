import type * as pulumi from '@pulumi/pulumi';

type Plain = string | number | boolean | null | undefined;

/** A value, or one that is known later, at any depth. */
type Later<T> = pulumi.Input<[T] extends [Plain] ? T : { [K in keyof T]: Later<T[K]> }>;

/** What a program passes for the inputs that a provider gets. */
export type Args<T> = { [K in keyof T]: Later<T[K]> };
