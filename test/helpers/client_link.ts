// The link between one client and the service, as a proxy that holds back, delays or cuts each direction by itself.

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type Direction = "toService" | "toClient";

export type Link = {
  /** Where the client connects. */
  readonly address: string;
  /** Bytes of this direction are kept back; when it is off again, they pass in their order. */
  hold(direction: Direction, on: boolean): void;
  /** Bytes of this direction arrive so much later; what is on its way already is not overtaken. */
  delay(direction: Direction, ms: number): void;
  /** Ends every connection and, while `refusing`, every new one. */
  cut(refusing: boolean): void;
  /** Lets connections in again. */
  restore(): void;
  /** New connections lead there. */
  leadTo(serviceAddress: string): void;
  stop(): Promise<void>;
};

type Flow = { readonly direction: Direction; readonly to: Socket; readonly queue: { bytes: Buffer; dueMs: number }[] };

export async function startLink(serviceAddress: string): Promise<Link> {
  const held = { toService: false, toClient: false };
  const delayMs = { toService: 0, toClient: 0 };
  const sockets = new Set<Socket>();
  const flows = new Set<Flow>();
  let refusing = false;
  let target = serviceAddress;

  function drain(flow: Flow): void {
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
      drain(flow);
      if (ms > 0) setTimeout(drain, ms + 2, flow).unref();
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

  function endAll(): void {
    for (const socket of sockets) socket.destroy();
  }

  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    hold(direction, on) {
      held[direction] = on;
      for (const flow of flows) drain(flow);
    },
    delay: (direction, ms) => void (delayMs[direction] = ms),
    cut(refuse) {
      refusing = refuse;
      endAll();
    },
    restore: () => void (refusing = false),
    leadTo: (address) => void (target = address),
    async stop() {
      server.close();
      endAll();
      await once(server, "close");
    },
  };
}
