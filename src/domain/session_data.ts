// What a session's `data` may be, beyond what its encoded size says.

/** The most levels of objects and lists: what every protobuf runtime still decodes (100 messages deep). */
export const DATA_MAX_DEPTH = 32;

/** The most bytes of `data`, encoded as a google.protobuf.Struct. */
export const DATA_MAX_BYTES = 64 * 1024;

/** What is wrong with `data`, or undefined. Numbers must be finite: JSON has no others. */
export function dataFault(data: unknown): string | undefined {
  return faultBelow(data, 1);
}

function faultBelow(value: unknown, depth: number): string | undefined {
  if (typeof value === "number") return Number.isFinite(value) ? undefined : "holds a number that is not finite";
  if (typeof value !== "object" || value === null) return undefined;
  if (depth > DATA_MAX_DEPTH) return `is more than ${DATA_MAX_DEPTH} levels deep`;
  for (const member of Object.values(value)) {
    const fault = faultBelow(member, depth + 1);
    if (fault !== undefined) return fault;
  }
  return undefined;
}
