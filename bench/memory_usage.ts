// Reads how much memory a store uses, in total and for each kind of key.

export type SendCommand = (args: readonly string[]) => Promise<unknown>;

/** The kinds of keys by the letter in their names. See ARCHITECTURE.md. */
export const KIND_NAMES: Readonly<Record<string, string>> = {
  s: "record",
  u: "user index",
  o: "order of a crowded user",
  d: "devices of the user",
  p: "hint of the device",
  a: "audit trail",
  ac: "audit trail of changes",
  am: "audit trail of address mismatches",
  c: "count of the tenant",
  n: "index of the tenant",
  tenants: "tenants of the partition",
  live: "live set of the partition",
};

/** Returns the bytes of the store's data, without the buffers of its connections. */
export async function usedMemory(send: SendCommand): Promise<number> {
  const info = String(await send(["INFO", "memory"]));
  const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)![1]);
  return field("used_memory") - field("mem_clients_normal") - field("mem_clients_slaves");
}

/** Sums MEMORY USAGE for each kind of key. It leaves out the store's table of expiries, about 40 bytes for each key. */
export async function memoryByKind(send: SendCommand): Promise<Map<string, number>> {
  const sums = new Map<string, number>();
  let cursor = "0";
  do {
    const [next, keys] = (await send(["SCAN", cursor, "COUNT", "1000"])) as [string, string[]];
    const sizes = await Promise.all(keys.map((key) => send(["MEMORY", "USAGE", key, "SAMPLES", "0"])));
    for (const [n, key] of keys.entries()) {
      const kind = /^sa:\{\w+\}:(\w+)/.exec(key)![1]!;
      sums.set(kind, (sums.get(kind) ?? 0) + Number(sizes[n]));
    }
    cursor = next;
  } while (cursor !== "0");
  return sums;
}
