// A Redis Cluster: one link per primary, each command sent to the primary of its key's slot, redirections followed.
//
// On links of our own and not node-redis's cluster client, because one primary that hangs must cost its own slots only,
// within the same time as anywhere else: that client has no watchdog per node, and its discovery waits for dead nodes.

import { ErrorReply } from "redis";
import { storeUnavailable } from "./errors.ts";
import {
  createNodeConnection,
  openClient,
  type NodeConnection,
  type StoreArguments,
  type StoreReply,
} from "./node_connection.ts";
import type { RouterOptions, StoreRouter } from "./connection.ts";
import { hostPortText, type ClusterStoreUrl, type HostPort } from "./store_url.ts";

const SLOTS = 16_384;
const ASK_TIMEOUT_MS = 1_000;
const MAX_REDIRECTIONS = 5;
/** How often the slots are asked for while some have no ready primary, and otherwise. */
const REFRESH_UNREADY_MS = 250;
const REFRESH_READY_MS = 10_000;

export function createClusterRouter(url: ClusterStoreUrl, options: RouterOptions): StoreRouter {
  const { log, maxPending } = options;
  const links = new Map<string, NodeConnection>();
  const addresses = new Map<string, HostPort>();
  let owners: (NodeConnection | undefined)[] = Array.from({ length: SLOTS });
  let ready = false;
  let closed = false;
  let refreshing: Promise<void> | undefined;
  let rounds = 0;
  let timer: NodeJS.Timeout | undefined;
  void refresh();

  /** Asks any node for the slots; one refresh at a time, and none fails: the old view stays. */
  function refresh(): Promise<void> {
    refreshing ??= (async () => {
      clearTimeout(timer);
      const known = [...addresses.values(), ...url.nodes];
      // Another one is asked first each time: one that is cut off from the others would tell the old slots for ever.
      const first = rounds++ % known.length;
      for (const node of [...known.slice(first), ...known.slice(0, first)]) {
        if (closed) break;
        try {
          apply(await askSlots(node, url));
          break;
        } catch (error) {
          log.debug({ err: error, store: hostPortText(node) }, "this node did not tell the cluster's slots");
        }
      }
      refreshing = undefined;
      check();
      if (!closed) timer = setTimeout(() => void refresh(), ready ? REFRESH_READY_MS : REFRESH_UNREADY_MS);
    })();
    return refreshing;
  }

  function apply(ranges: readonly SlotRange[]): void {
    if (closed) return;
    const next: (NodeConnection | undefined)[] = Array.from({ length: SLOTS });
    const used = new Set<string>();
    for (const { from, to, primary } of ranges) {
      used.add(hostPortText(primary));
      next.fill(linkTo(primary), from, to + 1);
    }
    owners = next;
    for (const [name, link] of links) {
      if (used.has(name)) continue;
      links.delete(name);
      addresses.delete(name);
      void link.close();
    }
  }

  function linkTo(address: HostPort): NodeConnection {
    const name = hostPortText(address);
    let link = links.get(name);
    if (link === undefined) {
      link = createNodeConnection({ locate: () => address, access: url, log, maxPending, onReadyChange: check });
      links.set(name, link);
      addresses.set(name, address);
    }
    return link;
  }

  /** Ready means: every slot has a primary that answers. Says so on a change, and looks for new primaries on a loss. */
  function check(): void {
    const now = !closed && [...links.values()].every((link) => link.isReady()) && !owners.includes(undefined);
    if (now === ready) return;
    ready = now;
    options.onReadyChange(ready);
    if (!ready && !closed) void refresh();
  }

  async function send(key: string, args: StoreArguments): Promise<StoreReply> {
    const slot = slotOf(key);
    let link = owners[slot];
    let asking = false;
    for (let redirections = 0; ; redirections++) {
      if (link === undefined) throw storeUnavailable();
      try {
        return await (asking ? link.sendTogether([["ASKING"], args]) : link.send(args));
      } catch (error) {
        // A redirection means that the command was not executed; after any other failure it may have been.
        const redirection = error instanceof ErrorReply ? /^(MOVED|ASK) \d+ (.*):(\d+)$/.exec(error.message) : null;
        if (redirection === null || redirections >= MAX_REDIRECTIONS || closed) throw error;
        asking = redirection[1] === "ASK";
        // A node that does not know its own name leaves it out: then it is the host that was asked.
        const address = link.address();
        const host = redirection[2] || (address?.host ?? "");
        link = linkTo({ host, port: Number(redirection[3]) });
        if (!asking) {
          owners[slot] = link;
          void refresh();
        }
        if (!link.isReady()) throw storeUnavailable(error);
      }
    }
  }

  return {
    send,
    isReady: () => ready,
    nodeAddress: () => [...links.values()].find((link) => link.isReady())?.address(),
    async close() {
      closed = true;
      clearTimeout(timer);
      await Promise.all([refreshing, ...[...links.values()].map((link) => link.close())]);
      clearTimeout(timer);
    },
  };
}

type SlotRange = { readonly from: number; readonly to: number; readonly primary: HostPort };

async function askSlots(node: HostPort, url: ClusterStoreUrl): Promise<SlotRange[]> {
  const client = openClient(node, url);
  client.on("error", () => undefined);
  const timer = setTimeout(() => client.destroy(), ASK_TIMEOUT_MS);
  try {
    await client.connect();
    const reply = await client.sendCommand<[number, number, [Buffer | null, number]][]>(["CLUSTER", "SLOTS"]);
    if (reply.length === 0) throw new Error("it serves no slots");
    return reply.map(([from, to, [host, port]]) => {
      const name = host?.toString() ?? "";
      return { from, to, primary: { host: name === "" || name === "?" ? node.host : name, port } };
    });
  } finally {
    clearTimeout(timer);
    client.destroy();
  }
}

/** The slots of the tags seen; there are as many as partitions, so a command costs no checksum. */
const slotsOfTags = new Map<string, number>();
const MAX_TAGS = 4_096;

/** The slot of a key: of what is between its first braces, when it has some. */
export function slotOf(key: string): number {
  const open = key.indexOf("{");
  const close = open === -1 ? -1 : key.indexOf("}", open + 1);
  const hashed = close > open + 1 ? key.slice(open + 1, close) : key;
  let slot = slotsOfTags.get(hashed);
  if (slot === undefined) {
    slot = crc16(Buffer.from(hashed)) % SLOTS;
    if (slotsOfTags.size < MAX_TAGS) slotsOfTags.set(hashed, slot);
  }
  return slot;
}

/** CRC-16/XMODEM, as the cluster specification wants it. */
function crc16(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}
