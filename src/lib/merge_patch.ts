// RFC 7396 JSON merge patch, exact for every member name.

type Json = number | string | boolean | null | JsonObject | Json[];
type JsonObject = { [name: string]: Json };

/** Merges `patch` into a copy of `target` by RFC 7396 section 2: a target that is not an object counts as empty. */
export function mergePatch(target: Json | undefined, patch: JsonObject): JsonObject {
  const members = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name);
    else members.set(name, isObject(value) ? mergePatch(members.get(name), value) : value);
  }
  // Object.fromEntries defines own properties, so a member named __proto__ stays a member.
  return Object.fromEntries(members);
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
