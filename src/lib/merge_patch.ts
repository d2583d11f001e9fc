// RFC 7396 JSON merge patch, exact for every member name.

type Json = number | string | boolean | null | JsonObject | Json[];
type JsonObject = { [name: string]: Json };

/** Returns a copy of `target` with `patch` merged into it by RFC 7396 section 2. */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  const members = new Map(Object.entries(target));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name);
    else members.set(name, isObject(value) ? mergePatch(asObject(members.get(name)), value) : value);
  }
  // Object.fromEntries defines own properties, so a member named __proto__ stays a member.
  return Object.fromEntries(members);
}

function asObject(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
