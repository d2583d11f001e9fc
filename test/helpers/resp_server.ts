// A store with faults: a proxy that replaces some of the commands that it passes to a real redis-server.

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { RedisServer } from "./redis_server.ts";

/** Returns the command to send instead, or undefined to send the command unchanged. The first word is in upper case. */
export type Rewrite = (args: readonly string[]) => readonly string[] | undefined;

export type FaultyStore = { readonly url: string; stop(): Promise<void> };

/** Starts the proxy. It rewrites commands and never replies, so that replies keep their order. */
export async function startFaultyStore(upstream: RedisServer, rewrite: Rewrite): Promise<FaultyStore> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const store =
      upstream.socketPath === undefined ? connect(upstream.port, "127.0.0.1") : connect(upstream.socketPath);
    let unread = Buffer.alloc(0);
    client.on("data", (chunk) => {
      unread = Buffer.concat([unread, chunk]);
      for (;;) {
        const command = readCommand(unread);
        if (command === undefined) return;
        unread = unread.subarray(command.length);
        const args = command.args.map((arg) => arg.toString("latin1"));
        const instead = rewrite([args[0]!.toUpperCase(), ...args.slice(1)]);
        store.write(encode(instead ?? args));
      }
    });
    store.on("data", (chunk) => client.write(chunk));
    for (const [one, other] of [
      [client, store],
      [store, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `redis://127.0.0.1:${(server.address() as { port: number }).port}`,
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Returns a command to which the store replies with this error. */
export function errorReply(text: string): readonly string[] {
  return ["EVAL", "return redis.error_reply(ARGV[1])", "0", text];
}

/** Returns a command to which the store replies with the result of the script; ARGV are the words of the command. */
export function luaReply(script: string, args: readonly string[]): readonly string[] {
  return ["EVAL", script, "0", ...args];
}

function readCommand(bytes: Buffer): { args: Buffer[]; length: number } | undefined {
  let position = 0;
  function line(): string | undefined {
    const end = bytes.indexOf("\r\n", position);
    if (end === -1) return undefined;
    const text = bytes.toString("latin1", position, end);
    position = end + 2;
    return text;
  }
  const count = line();
  if (count === undefined) return undefined;
  const args: Buffer[] = [];
  for (let i = 0; i < Number(count.slice(1)); i++) {
    const length = line();
    if (length === undefined || bytes.length < position + Number(length.slice(1)) + 2) return undefined;
    args.push(bytes.subarray(position, position + Number(length.slice(1))));
    position += Number(length.slice(1)) + 2;
  }
  return { args, length: position };
}

function encode(args: readonly string[]): Buffer {
  const words = args.map((arg) => `$${arg.length}\r\n${arg}\r\n`);
  return Buffer.from(`*${args.length}\r\n${words.join("")}`, "latin1");
}
