/**
 * The error after which Pulumi keeps the object in its state although it is not as it should be: the next `up`
 * goes on with it, `destroy` removes it. `id`, `properties` and `reasons` are what the dynamic provider looks for.
 */
export class HalfMade extends Error {
  override readonly name = 'HalfMade';
  readonly id: string;
  readonly properties: object;
  readonly reasons: string[];

  /** `properties` must hold the inputs as they came, with the serialized provider among them. */
  constructor(id: string, properties: object, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(reason, { cause });
    this.id = id;
    this.properties = properties;
    this.reasons = [reason];
  }
}
