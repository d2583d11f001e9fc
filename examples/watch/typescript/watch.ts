// Keeps a cache right: drops what an invalidation names, and continues where it was when the stream or the process breaks.

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
      } else if (event.value !== undefined) {
        // Opened or checkpoint: all up to here has been handled above, so it may be kept now and not earlier.
        position = event.value.position;
        writeFileSync(`${positionFile}.new`, position);
        renameSync(`${positionFile}.new`, positionFile);
      }
    }
  } catch (error) {
    console.error(String(error));
    // The position cannot be read any more: start from now, as after a reset.
    if (ConnectError.from(error).code === Code.InvalidArgument) {
      position = "";
      cache.clear();
      console.log("reset");
    }
  }
  await sleep(delayMs * (0.5 + Math.random()));
}
