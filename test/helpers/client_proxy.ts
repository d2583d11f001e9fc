// A TCP proxy between one client and the service that holds, delays or cuts each direction independently.

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type Direction = "toService" | "toClient";

export type ClientProxy = {
  /** The address that the client connects to. */
  readonly address: string;
  /** Holds back the bytes of this direction while `on`; they pass in order afterwards. */
  hold(direction: Direction, on: boolean): void;
  /** Delays the bytes of this direction. They never overtake bytes that were sent before. */
  delay(direction: Direction, ms: number): void;
  /** Closes every connection; if `refusing`, also every new one until `restore`. */
  cut(refusing: boolean): void;
  /** Accepts connections again. */
  restore(): void;
  /** Forwards new connections to this service. */
  retarget(serviceAddress: string): void;
  stop(): Promise<void>;
};

type Flow = { readonly direction: Direction; readonly to: Socket; readonly queue: { bytes: Buffer; dueMs: number }[] };

export async function startClientProxy(serviceAddress: string): Promise<ClientProxy> {
  const held = { toService: false, toClient: false };
  const delayMs = { toService: 0, toClient: 0 };
  const sockets = new Set<Socket>();
  const flows = new Set<Flow>();
  let refusing = false;
  let target = serviceAddress;

  function forward(flow: Flow): void {
    const now = performance.now();
    while (!held[flow.direction] && flow.queue.length > 0 && flow.queue[0]!.dueMs <= now) {
      flow.to.write(flow.queue.shift()!.bytes);
    }
  }

  function pipe(from: Socket, to: Socket, direction: Direction): void {
    const flow: Flow = { direction, to, queue: [] };
    sockets.add(from);
    flows.add(flow);
    from.on("data", (bytes: Buffer) => {
      const ms = delayMs[direction];
      flow.queue.push({ bytes, dueMs: performance.now() + ms });
      forward(flow);
      if (ms > 0) setTimeout(forward, ms + 2, flow).unref();
    });
    from.on("error", () => undefined);
    from.on("close", () => {
      sockets.delete(from);
      flows.delete(flow);
      to.destroy();
    });
  }

  const server = createServer({ noDelay: true }, (client) => {
    if (refusing) return void client.destroy();
    const [host, port] = target.split(":");
    const service = connect({ host: host!, port: Number(port), noDelay: true });
    pipe(client, service, "toService");
    pipe(service, client, "toClient");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  function closeAll(): void {
    for (const socket of sockets) socket.destroy();
  }

  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    hold(direction, on) {
      held[direction] = on;
      for (const flow of flows) forward(flow);
    },
    delay: (direction, ms) => void (delayMs[direction] = ms),
    cut(refuse) {
      refusing = refuse;
      closeAll();
    },
    restore: () => void (refusing = false),
    retarget: (address) => void (target = address),
    async stop() {
      server.close();
      closeAll();
      await once(server, "close");
    },
  };
}
