// Keeps a cache up to date: drops sessions that end or change, and resumes after the stream breaks or the process restarts.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { SessionService } from "../../../gen/session/v1/session_service_pb.ts";

const [baseUrl = "http://localhost:50051", positionFile = "position"] = process.argv.slice(2);
const client = createClient(SessionService, createGrpcTransport({ baseUrl, pingIntervalMs: 5000 }));
const cache = new Map<string, unknown>();
let position = existsSync(positionFile) ? readFileSync(positionFile, "utf8") : "";

for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, 5000)) {
  try {
    for await (const { event } of client.watchInvalidations({ resumePosition: position })) {
      delayMs = 100;
      if (event.case === "invalidation") {
        cache.delete(event.value.sessionId);
        console.log("invalidated", event.value.sessionId);
      } else if (event.case === "reset") {
        cache.clear();
        console.log("reset");
      } else if (event.value?.position) {
        // Opened, or a checkpoint of a new position: every change before it has been handled, so its position may be saved now, and not earlier.
        position = event.value.position;
        writeFileSync(`${positionFile}.new`, position);
        renameSync(`${positionFile}.new`, positionFile);
      }
    }
  } catch (error) {
    console.error(String(error));
    // The service does not accept this position any more: start from now, as after a reset.
    if (ConnectError.from(error).code === Code.InvalidArgument) {
      position = "";
      cache.clear();
      console.log("reset");
    }
  }
  await sleep(delayMs * (0.5 + Math.random()));
}
