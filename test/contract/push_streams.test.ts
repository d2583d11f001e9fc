// A handler that yields a push stream, on both hosts: all messages arrive in order, and the handler ends when the client is gone.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { startHosts } from "../helpers/rpc_hosts.ts";

const COUNT = 5000;

describe("a push stream", () => {
  for (const host of ["grpc", "http"] as const) {
    test(`on the ${host} host`, async () => {
      let ended = 0;
      const hosts = await startHosts({
        async *watchInvalidations() {
          try {
            yield checkpoint("first");
            yield numbers;
          } finally {
            ended++;
          }
        },
      });
      try {
        const baseUrl = host === "grpc" ? `http://${hosts.grpcTarget}` : hosts.httpUrl;
        const client = createClient(SessionService, createGrpcTransport({ baseUrl }));
        const positions: string[] = [];
        const caller = new AbortController();
        const reading = async () => {
          for await (const { event } of client.watchInvalidations({}, { signal: caller.signal })) {
            if (event.case === "checkpoint") positions.push(event.value.position);
            if (positions.length === COUNT + 1) caller.abort();
          }
        };
        await assert.rejects(reading());
        assert.deepEqual(positions, ["first", ...Array.from({ length: COUNT }, (_, i) => String(i))]);
        for (let waits = 0; ended === 0 && waits < 200; waits++) await sleep(10);
        assert.equal(ended, 1);
      } finally {
        await hosts.close();
      }
    });
  }
});

function checkpoint(position: string) {
  return { event: { case: "checkpoint" as const, value: { position } } };
}

/** Writes while there is room, as a subscription does. */
function numbers(write: (response: ReturnType<typeof checkpoint>) => boolean): () => void {
  let next = 0;
  const drain = () => {
    while (next < COUNT && write(checkpoint(String(next++))));
  };
  drain();
  return drain;
}
