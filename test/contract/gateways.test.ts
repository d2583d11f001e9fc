// Both ports behind nginx and HAProxy: what a gateway changes about connections must not change what callers see.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { createClient, type Client } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Verdict } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import type { ConnectionEnd } from "../../src/ops/connection_report.ts";
import type { SessionServiceImpl } from "../../src/service/handlers.ts";
import { GATEWAYS, gatewayMissing, startGateway, type Gateway } from "../helpers/gateways.ts";
import { pathOf, postJson, startHosts, type Hosts } from "../helpers/rpc_hosts.ts";

const { createSession } = SessionService.method;
const APP = "https://app.example.com";
const REQUEST_TIMEOUT_MS = 100;

for (const [name, kind] of Object.entries(GATEWAYS)) {
  describe(`behind ${name}`, { skip: gatewayMissing(kind) }, () => {
    const ended: ConnectionEnd[] = [];
    let hosts: Hosts;
    let gateway: Gateway;
    let clients: Client<typeof SessionService>[];
    let waiting = 0;
    const implementation: SessionServiceImpl = {
      async createSession({ userId }) {
        return { session: { userId } };
      },
      async getSession(_, { signal }) {
        waiting++;
        await once(signal, "abort");
        throw signal.reason;
      },
      async *validateStream(requests) {
        for await (const { entries } of requests) yield { results: entries.map(() => ({ verdict: Verdict.INVALID })) };
      },
      async *watchInvalidations(_, { signal }) {
        yield { event: { case: "checkpoint", value: { nonce: "first" } } };
        await once(signal, "abort");
      },
    };

    before(async () => {
      hosts = await startHosts(implementation, {
        requestTimeoutMs: REQUEST_TIMEOUT_MS,
        corsOrigins: [APP],
        connectionLimits: { onEnd: (reason) => void ended.push(reason) },
      });
      gateway = await startGateway(kind, { grpc: hosts.grpcTarget, http: hosts.httpTarget });
      clients = [gateway.grpc, gateway.http2].map((address) =>
        createClient(SessionService, createGrpcTransport({ baseUrl: `http://${address}` })),
      );
    });
    after(async () => {
      await gateway.stop();
      await hosts.close();
    });

    test("unary calls are served", async () => {
      for (const client of clients)
        assert.equal((await client.createSession({ userId: "eve" })).session?.userId, "eve");
    });

    test("a bidirectional stream may be open for longer than a request may take", async () => {
      for (const client of clients) {
        async function* requests() {
          yield { entries: [{}] };
          for (let calls = 0; calls < 3; calls++)
            await assert.rejects(client.getSession({ sessionId: "s" }), { code: 14 });
          yield { entries: [{}, {}] };
        }
        const counts: number[] = [];
        for await (const { results } of client.validateStream(requests())) counts.push(results.length);
        assert.deepEqual(counts, [1, 2]);
      }
    });

    test("1,600 cancelled calls do not disturb a watch, nor other calls", async () => {
      for (const client of clients) {
        const stop = new AbortController();
        const watch = client.watchInvalidations({}, { signal: stop.signal })[Symbol.asyncIterator]();
        await watch.next();
        let watchEnded = false;
        const next = watch.next().then(
          () => (watchEnded = true),
          () => (watchEnded = true),
        );
        for (let second = 0; second < 8; second++) {
          const cancel = new AbortController();
          const from = waiting;
          const options = { signal: cancel.signal };
          const calls = Array.from({ length: 200 }, () =>
            client.getSession({ sessionId: "s" }, options).catch(() => 0),
          );
          while (waiting === from) await new Promise((resolve) => setImmediate(resolve));
          cancel.abort();
          await Promise.all(calls);
          assert.equal((await client.createSession({ userId: "eve" })).session?.userId, "eve");
        }
        assert.equal(watchEnded, false);
        stop.abort();
        await next;
      }
      assert.deepEqual(ended, []);
    });

    test("JSON over HTTP/1.1, OPTIONS and CORS", async () => {
      const response = await postJson(gateway.http1, createSession, '{"userId": "eve"}');
      assert.deepEqual(response, { status: 200, json: { session: { userId: "eve" } } });
      const url = gateway.http1 + pathOf(createSession);
      const charset = { "content-type": 'application/json ; charset="utf-8"' };
      assert.equal((await fetch(url, { method: "POST", body: "{}", headers: charset })).status, 200);
      const wrong = await fetch(url);
      assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "POST, OPTIONS"]);
      const preflight = { origin: APP, "access-control-request-method": "POST" };
      const allowed = await fetch(url, { method: "OPTIONS", headers: preflight });
      assert.deepEqual([allowed.status, allowed.headers.get("access-control-allow-origin")], [204, APP]);
    });
  });
}
