// Concurrent histories of sessions over two instances, without a fault and under each kind of fault of the service and of its
// store: each is linearizable, or an outcome is UNAVAILABLE. The checker convicts histories that were made wrong.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createAuthorityClient, type AuthorityClient } from "../helpers/grpc_client.ts";
import { isLinearizable } from "../helpers/linearizability.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { rounds } from "../helpers/rounds.ts";
import { startServerProcess, type ServerProcess } from "../helpers/server_process.ts";
import { recordHistory, SESSION_MODEL, type SessionHistory } from "../helpers/session_history.ts";
import { until } from "../helpers/until.ts";
import { startTcpProxy, type TcpProxy } from "../helpers/tcp_proxy.ts";

const HISTORIES = rounds({ quick: 100, all: 300, variable: "LINEARIZABLE_HISTORIES" });
/** Histories that run at the same time. */
const LANES = 12;
const PAUSE_MS = 400;
const skip = redisServerMissing();

let redis: RedisServer;
let proxy: TcpProxy;
let servers: [ServerProcess, ServerProcess];
let clients: [AuthorityClient, AuthorityClient];
const replaced: AuthorityClient[] = [];

async function startInstance(): Promise<ServerProcess> {
  return startServerProcess({ url: `redis://${proxy.address}`, dataDir: redis.dataDir });
}

before(async () => {
  if (skip) return;
  redis = await startRedisServer({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
  proxy = await startTcpProxy(() => ({ host: "127.0.0.1", port: redis.port }));
  servers = [await startInstance(), await startInstance()];
  clients = [createAuthorityClient(servers[0].address), createAuthorityClient(servers[1].address)];
});
after(async () => {
  if (skip) return;
  for (const client of [...clients, ...replaced]) client.close();
  for (const server of servers) await server.kill();
  await proxy.stop();
  await redis.stop();
});

/** Records histories while the fault is made again and again. */
async function recordUnder(name: string, fault: (() => Promise<void>) | undefined): Promise<SessionHistory[]> {
  const histories: SessionHistory[] = [];
  let next = 0;
  const lane = async () => {
    while (histories.length < HISTORIES) {
      const history = await recordHistory(clients, `${name} ${next++}`);
      if (history !== undefined) histories.push(history);
      else await sleep(20);
    }
  };
  let isOver = false;
  const lanes = Promise.all(Array.from({ length: LANES }, lane)).finally(() => (isOver = true));
  while (fault !== undefined && !isOver) {
    await sleep(PAUSE_MS);
    await fault();
    await Promise.all(clients.map(untilServed));
  }
  await lanes;
  return histories;
}

async function untilServed(client: AuthorityClient): Promise<void> {
  await until("served again", () =>
    client.createSession({ userId: "served again" }).then(
      () => true,
      () => false,
    ),
  );
}

const FAULTS: Readonly<Record<string, (() => Promise<void>) | undefined>> = {
  "no fault": undefined,
  "connections to the store that are cut": async () => void proxy.cut(),
  "a store that hangs": async () => {
    redis.pause();
    await sleep(PAUSE_MS);
    redis.resume();
  },
  "a network that holds everything back": async () => {
    proxy.blackhole(true);
    await sleep(PAUSE_MS);
    proxy.blackhole(false);
  },
  "a store that is killed and restarted": () => redis.restart(),
  "a store that forgets its scripts": async () => void (await redis.command("SCRIPT", "FLUSH")),
  "an instance that is killed and replaced": async () => {
    await servers[1].kill();
    // Histories that run still call it.
    replaced.push(clients[1]);
    servers[1] = await startInstance();
    clients[1] = createAuthorityClient(servers[1].address);
  },
};

describe("histories are linearizable", { skip }, () => {
  for (const [name, fault] of Object.entries(FAULTS)) {
    test(`${HISTORIES} with ${name}`, async () => {
      const histories = await recordUnder(name, fault);
      const illegal = histories.filter((history) => !isLinearizable(SESSION_MODEL, history));
      assert.equal(illegal.length, 0, JSON.stringify(illegal[0], undefined, 1));
      const known = histories.flat().filter(({ result }) => result !== undefined);
      assert.ok(known.length > histories.length, "most outcomes are known");
    });
  }
});

test("the checker convicts stale reads, lost updates and sessions that come back", { skip }, async () => {
  const histories = await recordUnder("wrong", undefined);
  let convicted = { stale: 0, lost: 0, back: 0 };
  let made = { stale: 0, lost: 0, back: 0 };
  for (const history of histories) {
    const inOrder = history.toSorted((a, b) => a.calledMs - b.calledMs);
    const atMs = Math.max(...history.map(({ returnedMs }) => returnedMs)) + 1;
    const first = inOrder.find(({ op, result }) => op.kind === "validate" && result !== "gone");
    const increment = inOrder.find(({ op, result }) => op.kind === "increment" && result !== "gone");
    const isEnded = history.some(({ op, result }) => op.kind.startsWith("delete") && result === "1");
    const later = { calledMs: atMs, returnedMs: atMs + 1 };
    const evaluate = (kind: keyof typeof made, wrong: SessionHistory) => {
      made = { ...made, [kind]: made[kind] + 1 };
      if (!isLinearizable(SESSION_MODEL, wrong)) convicted = { ...convicted, [kind]: convicted[kind] + 1 };
    };
    // The state of the beginning, read once more at the end.
    const initial = "version 1 counter 0 value 0";
    if (increment !== undefined && !isEnded) {
      evaluate("stale", [...history, { ...later, op: { kind: "validate" }, result: initial }]);
      evaluate("lost", [...history, { ...later, op: { kind: "increment" }, result: increment.result! }]);
    }
    if (first !== undefined && isEnded) {
      evaluate("back", [...history, { ...later, op: { kind: "validate" }, result: first.result! }]);
    }
  }
  assert.ok(Math.min(...Object.values(made)) > 0, JSON.stringify(made));
  assert.deepEqual(convicted, made);
});
