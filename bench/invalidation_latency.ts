// `npm run bench:invalidation-latency`: measures the time from a revocation's response to its event at another instance.

import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { WatchInvalidationsResponseSchema } from "../gen/session/v1/watch_pb.ts";
import { createAuthorityClient } from "../test/helpers/grpc_client.ts";
import { connectRaw, openWatch } from "../test/helpers/raw_stream.ts";
import { startRedisServer } from "../test/helpers/redis_server.ts";
import { startServerProcess } from "../test/helpers/server_process.ts";
import { machine, percentile } from "./report.ts";

const REVOCATIONS = Number(process.env["BENCH_REVOCATIONS"] ?? 2000);
const SPACING_MS = 5;

const redis = await startRedisServer();
const [revoking, watching] = await Promise.all([startServerProcess(redis), startServerProcess(redis)]);
const client = createAuthorityClient(revoking.address);
const receivedMs = new Map<string, number>();
const { promise: opened, resolve } = Promise.withResolvers<void>();
openWatch(await connectRaw(watching.address), {}, (bytes) => {
  const { event } = fromBinary(WatchInvalidationsResponseSchema, bytes);
  if (event.case === "opened") resolve();
  if (event.case === "invalidation") receivedMs.set(event.value.sessionId, performance.now());
});
await opened;

const calledMs = new Map<string, number>();
const respondedMs = new Map<string, number>();
for (let i = 0; i < REVOCATIONS; i++) {
  const { session } = await client.createSession({ userId: `user-${i}` });
  const { sessionId } = session!;
  calledMs.set(sessionId, performance.now());
  await client.invalidateSession({ sessionId });
  respondedMs.set(sessionId, performance.now());
  await sleep(SPACING_MS);
}
// The last events may still be on their way.
for (let waits = 0; receivedMs.size < REVOCATIONS && waits < 500; waits++) await sleep(10);

console.log(`${machine()}; ${receivedMs.size} of ${REVOCATIONS} revocations received, on another instance`);
// The event often arrives before the response does. Then the time is negative.
report("from the response", respondedMs);
report("from the call", calledMs);
client.close();
await Promise.all([revoking.kill(), watching.kill()]);
await redis.stop();
process.exit();

function report(what: string, fromMs: ReadonlyMap<string, number>): void {
  const values = [...receivedMs].map(([id, ms]) => ms - fromMs.get(id)!);
  console.log(
    `${what.padEnd(20)} p50 ${percentile(values, 0.5).toFixed(2)} ms, p99 ${percentile(values, 0.99).toFixed(2)} ms`,
  );
}
