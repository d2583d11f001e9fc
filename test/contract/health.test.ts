// grpc.health.v1 on both hosts: Check and List report the readiness, and Watch reports its changes.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Code, createClient, type Client, type ConnectError } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../../gen/grpc/health/v1/health_pb.ts";
import { startHosts, type Hosts } from "../helpers/rpc_hosts.ts";

let hosts: Hosts;
let clients: Client<typeof Health>[];

async function start() {
  // Probes have no credential, so health must not require one.
  const refuseAll = () => {
    throw new Error("health must not authenticate");
  };
  hosts = await startHosts({}, { authenticate: refuseAll });
  clients = [
    createGrpcTransport({ baseUrl: `http://${hosts.grpcTarget}` }),
    createGrpcTransport({ baseUrl: hosts.httpUrl }),
    createConnectTransport({ baseUrl: hosts.httpUrl, httpVersion: "1.1" }),
  ].map((transport) => createClient(Health, transport));
}

before(start);
after(() => hosts.close());
beforeEach(() => hosts.readiness.clear("test"));

const SERVICES = ["", "session.v1.SessionService"];

test("Check follows the readiness", async () => {
  for (const client of clients) {
    for (const service of SERVICES) {
      assert.equal((await client.check({ service })).status, Serving.SERVING);
      hosts.readiness.block("test");
      assert.equal((await client.check({ service })).status, Serving.NOT_SERVING);
      hosts.readiness.clear("test");
    }
  }
});

test("Check of an unknown service is NOT_FOUND", async () => {
  for (const client of clients) await assert.rejects(client.check({ service: "nope" }), { code: Code.NotFound });
});

test("List names every service", async () => {
  hosts.readiness.block("test");
  for (const client of clients) {
    const { statuses } = await client.list({});
    assert.deepEqual(Object.keys(statuses).toSorted(), SERVICES);
    for (const { status } of Object.values(statuses)) assert.equal(status, Serving.NOT_SERVING);
  }
});

test("Watch sends the status at once and once after each change", async () => {
  for (const client of clients) {
    const cancel = new AbortController();
    const seen: Serving[] = [];
    await assert.rejects(async () => {
      for await (const { status } of client.watch({ service: "" }, cancel)) {
        seen.push(status);
        if (seen.length === 1) hosts.readiness.block("test");
        if (seen.length === 2) {
          // A second reason does not change the status, however long it lasts.
          hosts.readiness.block("another");
          await client.check({});
          hosts.readiness.clear("another");
          await client.check({});
          hosts.readiness.clear("test");
        }
        if (seen.length === 3) cancel.abort();
      }
    });
    assert.deepEqual(seen, [Serving.SERVING, Serving.NOT_SERVING, Serving.SERVING]);
  }
});

test("Watch of an unknown service sends SERVICE_UNKNOWN and stays open", async () => {
  for (const client of clients) {
    const cancel = new AbortController();
    const stream = client.watch({ service: "nope" }, cancel)[Symbol.asyncIterator]();
    assert.equal((await stream.next()).value?.status, Serving.SERVICE_UNKNOWN);
    const next = stream.next().catch((error: ConnectError) => error.code);
    hosts.readiness.block("test");
    hosts.readiness.clear("test");
    cancel.abort();
    assert.equal(await next, Code.Canceled);
  }
});

test("draining ends the watches with UNAVAILABLE", async () => {
  const ends = clients.map(async (client) => {
    const seen: Serving[] = [];
    try {
      for await (const { status } of client.watch({ service: "" })) {
        seen.push(status);
        if (seen.length === 1) opened();
      }
    } catch (error) {
      return [...seen, (error as ConnectError).code];
    }
    return seen;
  });
  let open = 0;
  let allOpen: (() => void) | undefined;
  function opened() {
    if (++open === clients.length) allOpen?.();
  }
  await new Promise<void>((resolve) => (allOpen = resolve));
  hosts.readiness.block("shutting down");
  await Promise.all([hosts.grpc.drain(60_000), hosts.http.drain(60_000)]);
  for (const end of await Promise.all(ends)) {
    assert.equal(end[0], Serving.SERVING);
    assert.equal(end.at(-1), Code.Unavailable);
  }
});
