// The rules of a session's `data`.

/** The most nested levels of objects and lists. Protobuf runtimes decode 100 messages deep, and a level takes up to three. */
export const DATA_MAX_DEPTH = 32;

/** The largest size of `data`, encoded as a google.protobuf.Struct. */
export const DATA_MAX_BYTES = 64 * 1024;

/**
 * Returns what is wrong with `data`, worded to follow the name of the field, or undefined if it is in order. The encoded size
 * is not checked.
 */
export function dataFault(data: unknown): string | undefined {
  return faultIn(data, 1);
}

function faultIn(value: unknown, depth: number): string | undefined {
  if (typeof value === "number") return Number.isFinite(value) ? undefined : "holds a number that is not finite";
  if (typeof value !== "object" || value === null) return undefined;
  if (depth > DATA_MAX_DEPTH) return `is more than ${DATA_MAX_DEPTH} levels deep`;
  for (const member of Object.values(value)) {
    const fault = faultIn(member, depth + 1);
    if (fault !== undefined) return fault;
  }
  return undefined;
}
