// The rules of a session's `data`.

/** The most nested levels of objects and lists. Protobuf runtimes decode 100 messages deep, and a level takes up to three. */
export const DATA_MAX_DEPTH = 32;

/** The largest size of `data`, encoded as a google.protobuf.Struct. */
export const DATA_MAX_BYTES = 64 * 1024;

/**
 * Returns what is wrong with `data`, worded to follow the name of the field, or undefined if it is in order. The encoded size
 * is not checked. `depth` is the level of the object or list.
 */
export function dataFault(data: unknown, depth = 1): string | undefined {
  if (typeof data === "number") return Number.isFinite(data) ? undefined : "holds a number that is not finite";
  if (typeof data !== "object" || data === null) return undefined;
  if (depth > DATA_MAX_DEPTH) return `is more than ${DATA_MAX_DEPTH} levels deep`;
  for (const member of Object.values(data)) {
    const fault = dataFault(member, depth + 1);
    if (fault !== undefined) return fault;
  }
  return undefined;
}
