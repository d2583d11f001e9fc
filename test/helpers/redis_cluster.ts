// A Redis Cluster of three primaries for a test, and the move of a slot from one of them to another, held at any point.

import assert from "node:assert/strict";
import { createClient } from "redis";
import { startRedisServer, type RedisServer } from "./redis_server.ts";
import { until } from "./until.ts";

/** The slots of each primary. */
export const SLOT_RANGES = [
  [0, 5460],
  [5461, 10922],
  [10923, 16383],
] as const;

export type RedisCluster = {
  readonly nodes: readonly RedisServer[];
  /** In the form of SA_STORE_URL. */
  readonly url: string;
  stop(): Promise<void>;
};

export async function startRedisCluster(): Promise<RedisCluster> {
  const args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"];
  const nodes = await Promise.all(SLOT_RANGES.map(() => startRedisServer({ args })));
  const stop = async () => void (await Promise.all(nodes.map((node) => node.stop())));
  try {
    for (const [index, [from, to]] of SLOT_RANGES.entries()) {
      await nodes[index]!.command("CLUSTER", "ADDSLOTSRANGE", String(from), String(to));
      await nodes[index]!.command("CLUSTER", "SET-CONFIG-EPOCH", String(index + 1));
    }
    for (const node of nodes.slice(1)) await nodes[0]!.command("CLUSTER", "MEET", "127.0.0.1", String(node.port));
    const isWhole = async () => {
      const infos = await Promise.all(nodes.map((node) => node.command("CLUSTER", "INFO")));
      return infos.every((info) => info.includes("cluster_state:ok") && info.includes("cluster_slots_assigned:16384"));
    };
    await until("the cluster is whole", isWhole, 15_000);
  } catch (error) {
    await stop();
    throw error;
  }
  return { nodes, url: `redis+cluster://127.0.0.1:${nodes[0]!.port},127.0.0.1:${nodes[1]!.port}`, stop };
}

/** A slot that two nodes have between them: `source` is MIGRATING it, `target` IMPORTING. */
export type SlotMove = {
  /** Moves the keys of the slot for which the function returns true. */
  moveKeys(isMoved: (key: string) => boolean): Promise<void>;
  /** Returns the content and the deadline of each key of the slot, on whichever node it is. */
  content(): Promise<Map<string, string>>;
  /** Moves the remaining keys, and gives the slot to the target. */
  finish(): Promise<void>;
};

/** Begins to move a slot to the next node. */
export async function beginSlotMove({ nodes }: RedisCluster, slot: number): Promise<SlotMove> {
  const owners = await Promise.all(nodes.map((node) => node.command("CLUSTER", "COUNTKEYSINSLOT", String(slot))));
  const withKeys = owners.findIndex((count) => count !== ":0");
  const from = withKeys >= 0 ? withKeys : SLOT_RANGES.findIndex(([first, last]) => slot >= first && slot <= last);
  const [source, target] = [nodes[from]!, nodes[(from + 1) % nodes.length]!];
  const idOf = async (node: RedisServer) => (await node.command("CLUSTER", "MYID")).split("\r\n")[1]!;
  const [sourceId, targetId] = await Promise.all([idOf(source), idOf(target)]);
  await expectOk(target, "CLUSTER", "SETSLOT", String(slot), "IMPORTING", sourceId);
  await expectOk(source, "CLUSTER", "SETSLOT", String(slot), "MIGRATING", targetId);

  async function moveKeys(isMoved: (key: string) => boolean): Promise<void> {
    for (const key of await keysInSlot(source, slot)) {
      if (isMoved(key)) {
        await expectOk(source, "MIGRATE", "127.0.0.1", String(target.port), key, "0", "5000");
      }
    }
  }

  return {
    moveKeys,
    async content() {
      const found = await Promise.all([source, target].map((node) => contentOf(node, slot)));
      return new Map(found.flat());
    },
    async finish() {
      await moveKeys(() => true);
      for (const node of [target, source, ...nodes]) {
        await expectOk(node, "CLUSTER", "SETSLOT", String(slot), "NODE", targetId);
      }
    },
  };
}

async function expectOk(node: RedisServer, ...args: string[]): Promise<void> {
  assert.match(await node.command(...args), /^\+(OK|NOKEY)/, args.join(" "));
}

async function keysInSlot(node: RedisServer, slot: number): Promise<string[]> {
  return withClient(node, (client) => client.sendCommand(["CLUSTER", "GETKEYSINSLOT", String(slot), "10000"]));
}

async function contentOf(node: RedisServer, slot: number): Promise<[string, string][]> {
  const keys = await keysInSlot(node, slot);
  return withClient(node, (client) =>
    Promise.all(
      keys.map(async (key) => {
        // The target takes a command only after ASKING. Commands of one turn are sent in their order.
        const replies = await Promise.all(
          ["DUMP", "PEXPIRETIME"].flatMap((command) => [
            client.sendCommand(["ASKING"]),
            client.sendCommand([command, key]),
          ]),
        );
        return [key, replies.map(String).join(" ")] as [string, string];
      }),
    ),
  );
}

async function withClient<Result>(
  node: RedisServer,
  use: (client: { sendCommand(args: readonly string[]): Promise<unknown> }) => Promise<unknown>,
): Promise<Result> {
  const client = createClient({ url: node.url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await use(client as never)) as Result;
  } finally {
    client.destroy();
  }
}
