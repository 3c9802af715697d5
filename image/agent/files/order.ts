/** Where code units and UTF-8 bytes order differently: surrogates stand below U+E000 in the one and above U+FFFF in the other. */
const ORDER_DIFFERS = /[\ud800-\uffff]/;

/** Orders strings as their UTF-8 bytes. */
export function compareBytewise(a: string, b: string): number {
  if (ORDER_DIFFERS.test(a) && ORDER_DIFFERS.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : a > b ? 1 : 0;
}
