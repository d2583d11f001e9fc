// A Redis Cluster: one node connection per primary; each command goes to the primary of its key's slot, and redirections are
// followed.
//
// This does not use node-redis's cluster client, because a primary that hangs must affect only its own slots, and for no
// longer than on a single node: that client does not ping its nodes, and its discovery waits for dead ones.

import { ErrorReply } from "redis";
import { storeUnavailable } from "./errors.ts";
import { NodeConnection } from "./node_connection.ts";
import { faultOfReply } from "./faults.ts";
import type { NodeFault } from "./node_health.ts";
import { recoverNode, type RouterOptions, type StoreRouter } from "./router.ts";
import { withClient, type StoreArguments, type StoreClient, type StoreReply } from "./store_client.ts";
import { fenceOf } from "./fence.ts";
import { SLOT_COUNT, slotOf } from "./slots.ts";
import { hostPortText, type ClusterStoreUrl, type HostPort, type NodeAddress } from "./store_url.ts";

const SLOTS_TIMEOUT_MS = 1_000;
const MAX_REDIRECTIONS = 5;
/** How often the slots are read while some have no ready primary, and otherwise. */
const REFRESH_UNREADY_MS = 250;
const REFRESH_READY_MS = 10_000;

type Primary = { readonly address: HostPort; readonly connection: NodeConnection };
type SlotRange = { readonly from: number; readonly to: number; readonly primary: HostPort };

export class ClusterRouter implements StoreRouter {
  readonly #url: ClusterStoreUrl;
  readonly #options: RouterOptions;
  /** The primaries by the text of their address. */
  readonly #primaries = new Map<string, Primary>();
  /** The primary of each slot. */
  #owners: (Primary | undefined)[] = Array.from({ length: SLOT_COUNT });
  #ready = false;
  /** The error for which no node returned the slots when they were read last. */
  #slotsFailure: unknown;
  #closed = false;
  #refreshing: Promise<void> | undefined;
  #refreshes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(url: ClusterStoreUrl, options: RouterOptions) {
    this.#url = url;
    this.#options = options;
    void this.#refresh();
  }

  async send(args: StoreArguments, key: string): Promise<StoreReply> {
    const slot = slotOf(key);
    let primary = this.#owners[slot];
    let asking = false;
    for (let redirections = 0; ; redirections++) {
      if (primary === undefined) throw storeUnavailable();
      const { connection, address } = primary;
      try {
        return await (asking ? connection.sendAsking(args) : connection.send(args));
      } catch (error) {
        // After a redirection the command was not executed, so it can be sent again; after any other failure it may have been.
        const redirection = parseRedirection(error, address);
        if (redirection === undefined || redirections >= MAX_REDIRECTIONS || this.#closed) throw error;
        asking = redirection.asking;
        primary = this.#primaryAt(redirection.address);
        if (!asking) {
          this.#owners[slot] = primary;
          void this.#refresh();
        }
        if (!primary.connection.isReady()) throw storeUnavailable(error);
      }
    }
  }

  isReady(): boolean {
    return this.#ready;
  }

  fault(): NodeFault | undefined {
    if (this.#ready) return undefined;
    const faults = [...this.#primaries.values()].map(({ connection }) => connection.fault());
    const found = faults.find((fault) => fault !== undefined);
    if (found !== undefined) return found;
    const failure = this.#slotsFailure;
    if (failure === undefined || this.#primaries.size > 0) return { fault: "CLUSTERDOWN", node: undefined };
    return { fault: faultOfReply(failure) ?? "unreachable", node: undefined, failure };
  }

  async prove(): Promise<void> {
    if (!this.#ready) throw storeUnavailable();
    await Promise.all([...this.#primaries.values()].map(({ connection }) => connection.prove()));
  }

  rightsRestored(): void {
    for (const { connection } of this.#primaries.values()) connection.rightsRestored();
  }

  nodeAddress(key?: string): NodeAddress | undefined {
    if (key !== undefined) return this.#owners[slotOf(key)]?.connection.nodeAddress();
    return [...this.#primaries.values()].find(({ connection }) => connection.isReady())?.address;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await Promise.all([this.#refreshing, ...[...this.#primaries.values()].map(({ connection }) => connection.close())]);
  }

  /** Reads the slots from any node. One refresh runs at a time; if no node replies, the current view stays. */
  #refresh(): Promise<void> {
    this.#refreshing ??= (async () => {
      clearTimeout(this.#timer);
      await this.#readSlotsFromAnyNode();
      this.#refreshing = undefined;
      this.#updateReady();
      if (this.#closed) return;
      this.#timer = setTimeout(() => void this.#refresh(), this.#ready ? REFRESH_READY_MS : REFRESH_UNREADY_MS);
    })();
    return this.#refreshing;
  }

  async #readSlotsFromAnyNode(): Promise<void> {
    const known = [...[...this.#primaries.values()].map(({ address }) => address), ...this.#url.nodes];
    // Each refresh begins with another node, because one that is cut off from the others would return old slots for ever.
    const first = this.#refreshes++ % known.length;
    for (const node of [...known.slice(first), ...known.slice(0, first)]) {
      if (this.#closed) return;
      try {
        this.#apply(await readSlots(node, this.#url));
        this.#slotsFailure = undefined;
        return;
      } catch (error) {
        this.#slotsFailure = error;
        const fields = { err: error, store: hostPortText(node) };
        this.#options.log.debug(fields, "this node did not return the cluster's slots; trying the next one");
      }
    }
  }

  #apply(ranges: readonly SlotRange[]): void {
    if (this.#closed) return;
    const owners: (Primary | undefined)[] = Array.from({ length: SLOT_COUNT });
    const used = new Set<string>();
    for (const { from, to, primary } of ranges) {
      used.add(hostPortText(primary));
      owners.fill(this.#primaryAt(primary), from, to + 1);
    }
    this.#owners = owners;
    for (const [name, { connection }] of this.#primaries) {
      if (used.has(name)) continue;
      this.#primaries.delete(name);
      void connection.close();
    }
  }

  #primaryAt(address: HostPort): Primary {
    const name = hostPortText(address);
    let primary = this.#primaries.get(name);
    if (primary === undefined) {
      const { log, maxPending, fenceTimeoutMs } = this.#options;
      const onReadyChange = () => this.#updateReady();
      const locate = () => address;
      // A node that refuses the fence may have lost its slots to another primary.
      const owns = (slot: number) => this.#owners[slot]?.address === address;
      const fence = { ...fenceOf(owns, fenceTimeoutMs), onRefused: () => void this.#refresh() };
      const prepare = (client: StoreClient) => recoverNode(this.#options, client, owns);
      const options = { locate, access: this.#url, log, maxPending, onReadyChange, fence, prepare };
      const connection = new NodeConnection(options);
      primary = { address, connection };
      this.#primaries.set(name, primary);
    }
    return primary;
  }

  /** The cluster is ready if every slot has a ready primary. Reports a change, and looks for new primaries after a loss. */
  #updateReady(): void {
    const connections = [...this.#primaries.values()].map(({ connection }) => connection);
    const ready = !this.#closed && connections.every((node) => node.isReady()) && !this.#owners.includes(undefined);
    if (ready && this.#ready) return;
    this.#ready = ready;
    this.#options.onReadyChange(ready);
    if (!ready && !this.#closed) void this.#refresh();
  }
}

/** Parses a MOVED or ASK error of the node at `from`; undefined for any other error. */
function parseRedirection(error: unknown, from: HostPort) {
  const parts = error instanceof ErrorReply ? /^(MOVED|ASK) \d+ (.*):(\d+)$/.exec(error.message) : null;
  if (parts === null) return undefined;
  // A node that does not know its own host leaves it out: then it is the host that sent the redirection.
  const address = { host: parts[2] || from.host, port: Number(parts[3]) };
  return { asking: parts[1] === "ASK", address };
}

function readSlots(node: HostPort, url: ClusterStoreUrl): Promise<SlotRange[]> {
  return withClient(node, url, SLOTS_TIMEOUT_MS, async (client) => {
    const reply = await client.sendCommand<[number, number, [Buffer | null, number]][]>(["CLUSTER", "SLOTS"]);
    if (reply.length === 0) throw new Error("it serves no slots");
    return reply.map(([from, to, [host, port]]) => {
      const name = host?.toString() ?? "";
      return { from, to, primary: { host: name === "" || name === "?" ? node.host : name, port } };
    });
  });
}
