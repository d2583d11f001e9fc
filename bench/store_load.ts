// `npm run bench:store-load`: counts the commands that idle instances and their cached clients cost the store, those inside
// scripts included, and the bytes that each client receives from an idle service.

import { connect, createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient } from "../src/client/index.ts";
import { startRedisCluster } from "../test/helpers/redis_cluster.ts";
import { startRedisServer, type RedisServer } from "../test/helpers/redis_server.ts";
import { startServerProcess, type ServerProcess } from "../test/helpers/server_process.ts";
import { machine } from "./report.ts";

const SECONDS = Number(process.env["BENCH_SECONDS"] ?? 10);
/** Until leases are granted and the first round of everything periodic has passed. */
const SETTLE_MS = 6000;

type Store = { readonly name: string; readonly url: string; readonly nodes: readonly RedisServer[] };

async function measure({ url, nodes }: Store, instances: number, caches: number): Promise<string> {
  const [{ dataDir }] = nodes as [RedisServer];
  const servers: ServerProcess[] = [];
  for (let i = 0; i < instances; i++) servers.push(await startServerProcess({ url, dataDir }));
  const proxies = await Promise.all(servers.map(({ address }) => startCountingProxy(address)));
  const clients: SessionClient[] = [];
  for (let i = 0; i < caches; i++) clients.push(createSessionClient({ address: proxies[i % instances]!.address }));
  await Promise.all(clients.map((client) => client.waitUntilReady()));
  await sleep(SETTLE_MS);

  const before = { commands: await commandsOf(nodes), bytes: bytesOf(proxies) };
  await sleep(SECONDS * 1000);
  const commands = (await commandsOf(nodes)) - before.commands;
  const bytes = bytesOf(proxies) - before.bytes;
  const safe = clients.every((client) => client.statistics().safeForMs > 0);

  for (const client of clients) client.close();
  for (const proxy of proxies) proxy.close();
  await Promise.all(servers.map((server) => server.kill()));
  const each = caches === 0 ? "" : (bytes / SECONDS / caches).toFixed(0);
  return `| ${instances} | ${caches} | ${(commands / SECONDS).toFixed(1)} | ${each} |${safe ? "" : " (without a lease)"}`;
}

function bytesOf(proxies: readonly { readonly received: number }[]): number {
  return proxies.reduce((sum, { received }) => sum + received, 0);
}

/** Returns how many commands the store has executed, without those that ask for this number. */
async function commandsOf(nodes: readonly RedisServer[]): Promise<number> {
  let sum = 0;
  for (const node of nodes) {
    const stats = await node.command("INFO", "commandstats");
    for (const [, name, calls] of stats.matchAll(/cmdstat_(\S+?):calls=(\d+)/g))
      if (name !== "info") sum += Number(calls);
  }
  return sum;
}

/** Passes connections on to an instance, and counts what its clients receive. */
async function startCountingProxy(target: string) {
  const [host, port] = target.split(":") as [string, string];
  let received = 0;
  const server = createServer((socket) => {
    const upstream = connect(Number(port), host);
    socket.pipe(upstream).on("data", (chunk: Buffer) => (received += chunk.length));
    upstream.pipe(socket);
    for (const end of [socket, upstream])
      end.on("error", () => undefined).on("close", () => (socket.destroy(), upstream.destroy()));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    address,
    get received() {
      return received;
    },
    close: () => void server.close(),
  };
}

const single = await startRedisServer();
const cluster = await startRedisCluster();
const stores: Store[] = [
  { name: "one node", url: single.url, nodes: [single] },
  { name: "a cluster of three primaries", url: cluster.url, nodes: cluster.nodes },
];
console.log(`${machine()}; ${SECONDS} s each`);
for (const store of stores) {
  console.log(
    `\n${store.name}\n\n| instances | caches | commands/s | bytes/s for each cache |\n| --- | --- | --- | --- |`,
  );
  for (const instances of [1, 3]) for (const caches of [0, 1, 20]) console.log(await measure(store, instances, caches));
}
await single.stop();
await cluster.stop();
