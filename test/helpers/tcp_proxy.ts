// A proxy in front of a TCP or Unix listener that can cut, refuse and freeze connections, and drop pub/sub messages of a store.

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type Upstream = { readonly path: string } | { readonly port: number; readonly host: string };

export type TcpProxy = {
  /** The address that it listens on: `listen.path` if given, otherwise 127.0.0.1:port. */
  readonly address: string;
  /** Destroys all connections, or only those that have subscribed. Returns their number. */
  cut(onlySubscribers?: boolean): number;
  /** Closes new connections at once while this is on. */
  refuse(on: boolean): void;
  /** Holds back all bytes in both directions while this is on, without closing anything. They pass afterwards. */
  blackhole(on: boolean, onlySubscribers?: boolean): void;
  /** Drops each pub/sub message of the channel for which the function returns true; undefined drops none. */
  dropMessages(isDropped: (() => boolean) | undefined): void;
  /** Returns how many messages were dropped. */
  dropped(): number;
  stop(): Promise<void>;
};

type Connection = { client: Socket; server: Socket; subscribed: boolean; held: (() => void)[]; unread: Buffer };

const CHANNEL = "sa:changes";
/** The beginning of a published message as a subscriber receives it (RESP2). */
const PUSH = Buffer.from(`*3\r\n$7\r\nmessage\r\n$${CHANNEL.length}\r\n${CHANNEL}\r\n$`);

/** @param listen `replyDelayMs`: what the server sends arrives so much later. */
export async function startTcpProxy(
  upstream: () => Upstream,
  listen: { path?: string; replyDelayMs?: number } = {},
): Promise<TcpProxy> {
  const { replyDelayMs = 0 } = listen;
  const connections = new Set<Connection>();
  let refusing = false;
  let holding: "none" | "subscribers" | "all" = "none";
  let isDropped: (() => boolean) | undefined;
  let droppedCount = 0;

  const isHeld = (each: Connection) => holding === "all" || (holding === "subscribers" && each.subscribed);

  function pass(each: Connection, send: () => void): void {
    if (isHeld(each) || each.held.length > 0) each.held.push(send);
    else send();
  }

  const server = createServer({ noDelay: true }, (client) => {
    if (refusing) return void client.destroy();
    const target = connect({ ...upstream(), noDelay: true } as never);
    const each: Connection = { client, server: target, subscribed: false, held: [], unread: Buffer.alloc(0) };
    connections.add(each);
    client.on("data", (chunk: Buffer) => {
      each.subscribed ||= /subscribe/i.test(chunk.toString("latin1"));
      pass(each, () => void target.write(chunk));
    });
    target.on("data", (chunk: Buffer) => {
      const bytes = each.subscribed ? withoutDropped(each, chunk) : chunk;
      if (bytes.length === 0) return;
      // Timers of one duration fire in their order.
      if (replyDelayMs > 0) setTimeout(() => pass(each, () => void client.write(bytes)), replyDelayMs);
      else pass(each, () => void client.write(bytes));
    });
    for (const [one, other] of [
      [client, target],
      [target, client],
    ] as const) {
      one.on("error", () => other.destroy());
      one.on("close", () => {
        connections.delete(each);
        other.destroy();
      });
    }
  });

  /** Splits the stream into replies, so that it stays well-formed without the dropped messages. */
  function withoutDropped(each: Connection, chunk: Buffer): Buffer {
    each.unread = Buffer.concat([each.unread, chunk]);
    const kept: Buffer[] = [];
    for (;;) {
      const at = each.unread.indexOf(PUSH);
      // The last bytes may be the beginning of a push, so they wait for more bytes.
      if (at !== 0) {
        const until = at === -1 ? each.unread.length - partialPushLength(each.unread) : at;
        kept.push(each.unread.subarray(0, until));
        each.unread = each.unread.subarray(until);
        if (at === -1) break;
        continue;
      }
      const lengthEnd = each.unread.indexOf("\r\n", PUSH.length);
      if (lengthEnd === -1) break;
      const end = lengthEnd + 2 + Number(each.unread.toString("latin1", PUSH.length, lengthEnd)) + 2;
      if (each.unread.length < end) break;
      if (isDropped?.()) droppedCount++;
      else kept.push(each.unread.subarray(0, end));
      each.unread = each.unread.subarray(end);
    }
    return Buffer.concat(kept);
  }

  if (listen.path === undefined) server.listen(0, "127.0.0.1");
  else server.listen(listen.path);
  await once(server, "listening");
  const bound = server.address() as string | { port: number };

  return {
    address: typeof bound === "string" ? bound : `127.0.0.1:${bound.port}`,
    cut(onlySubscribers = false) {
      const chosen = [...connections].filter((each) => !onlySubscribers || each.subscribed);
      for (const { client, server: target } of chosen) {
        client.destroy();
        target.destroy();
      }
      return chosen.length;
    },
    refuse: (on) => void (refusing = on),
    blackhole(on, onlySubscribers = false) {
      holding = on ? (onlySubscribers ? "subscribers" : "all") : "none";
      if (on) return;
      for (const each of connections) for (const send of each.held.splice(0)) send();
    },
    dropMessages: (decide) => void (isDropped = decide),
    dropped: () => droppedCount,
    async stop() {
      for (const { client, server: target } of connections) {
        client.destroy();
        target.destroy();
      }
      server.close();
      await once(server, "close");
    },
  };
}

/** Returns how many of the last bytes may be the beginning of a push. */
function partialPushLength(bytes: Buffer): number {
  for (let length = Math.min(bytes.length, PUSH.length - 1); length > 0; length--) {
    if (bytes.subarray(-length).equals(PUSH.subarray(0, length))) return length;
  }
  return 0;
}
