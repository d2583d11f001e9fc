// The peers as contestants of `npm run bench`: installs them, starts them on the same store, and fills them with sessions.

import type { RedisServer } from "../test/helpers/redis_server.ts";
import { h2load } from "./h2load.ts";
import { PEERS } from "./peers/peers.ts";
import { CONNECTIONS, grpcLoad, STREAMS, type Contestant } from "./validate_contestants.ts";

/** Starts the peers that can run here. Prints a reason for each of the others. */
export async function startPeers(redis: RedisServer, requests: number): Promise<Contestant[]> {
  const contestants: Contestant[] = [];
  for (const peer of PEERS) {
    const reason = peer.missing();
    if (reason !== undefined) {
      console.log(`without ${peer.name}: ${reason}`);
      continue;
    }
    await peer.install();
    const { address, pid } = await peer.start(redis.url);
    const shared = { name: peer.name, kind: "peer" as const, pids: [pid] };
    if (peer.kind === "grpc") {
      const [token] = (await peer.seed(redis.url, 1)) as [string];
      const run = () => grpcLoad(address, requests, token);
      contestants.push({ ...shared, name: `${peer.name}: grpc-go, go-redis`, validations: requests, run });
    } else {
      const headers = { cookie: await peer.login(address) };
      const load = { url: `http://${address}/validate`, requests: requests / 4, headers, http1: true };
      const run = () => h2load({ ...load, connections: CONNECTIONS * STREAMS, streams: 1 });
      contestants.push({ ...shared, validations: load.requests, run });
    }
  }
  return contestants;
}
