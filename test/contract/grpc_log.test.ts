// The messages of grpc-js go to the log, without the headers that they quote, and at most one a second.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import pino from "pino";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { redirectGrpcLog } from "../../src/ops/grpc_log.ts";
import { connectRaw, grpcFrame, openRpc } from "../helpers/raw_stream.ts";
import { startHosts } from "../helpers/rpc_hosts.ts";

test("a header that grpc-js cannot store is one line of the log, without its value", async (t) => {
  const lines: Record<string, unknown>[] = [];
  redirectGrpcLog(pino({ level: "warn" }, { write: (line: string) => void lines.push(JSON.parse(line)) }));
  const printed: unknown[] = [];
  t.mock.method(console, "error", (...texts: unknown[]) => void printed.push(texts));
  const hosts = await startHosts({});
  t.after(() => hosts.close());
  const session = await connectRaw(hosts.grpcTarget);
  for (const name of ["x-api-key", "authorization", "x-other"]) {
    const stream = openRpc(session, SessionService.method.createSession, { [name]: "Bearer secret-\u00e9-part: more" });
    stream.on("error", () => undefined).resume();
    stream.end(grpcFrame(Buffer.alloc(0)));
    await once(stream, "close");
  }
  session.destroy();
  assert.deepEqual(
    lines.map(({ level, error }) => [level, error]),
    [[40, "Failed to add metadata entry x-api-key"]],
  );
  assert.deepEqual(printed, []);
});
