// `npm run bench:memory`: measures the store's memory for a session, as the store reports it, and compares it with the value
// that connect-redis writes for the same session, alone and with a user index, which connect-redis lacks.

import { randomBytes, randomUUID } from "node:crypto";
import { startAuthorities } from "../test/helpers/authority.ts";
import { startRedisServer, type RedisServer } from "../test/helpers/redis_server.ts";
import { createClient } from "redis";
import { KIND_NAMES, memoryByKind, usedMemory, type SendCommand } from "./memory_usage.ts";
import { machine } from "./report.ts";
import { SESSION_TTL_MS, typicalDevice, typicalLogin } from "./typical_session.ts";

const SESSIONS = Number(process.env["BENCH_SESSIONS"] ?? 20_000);
const IN_FLIGHT = 64;
/** Kinds of keys whose size does not depend on the number of sessions: logs are bounded, the others are one per partition. */
const CONSTANT_KINDS = ["log", "tail", "meta"];

type Variant = "secure" | "device";
type Population = { readonly variant: Variant; readonly perUser: number };

console.log(`${machine()}; ${SESSIONS} sessions; bytes a session`);
for (const perUser of [1, 5]) {
  for (const variant of ["secure", "device"] as const) await compare({ variant, perUser });
}
process.exit();

async function compare(population: Population): Promise<void> {
  const theirs = await measureTheirs(population);
  const ours = await measureOurs(population);
  const title = `${population.variant} sessions, ${population.perUser} of each user`;
  console.log(`\n${title}`);
  line("connect-redis: value", theirs.values);
  line("connect-redis: value and user index", theirs.all);
  line("ours, without the audit trail", ours.withoutAudit, theirs.all);
  line("ours", ours.all, theirs.all);
  for (const [kind, bytes] of ours.byKind) {
    console.log(`  of which ${(KIND_NAMES[kind] ?? kind).padEnd(30)} ${bytes.toFixed(0).padStart(6)}`);
  }
  console.log(
    `  besides, whatever the number of sessions: ${(ours.constant / 1024 / 1024).toFixed(1)} MiB of change logs`,
  );
}

function line(name: string, bytes: number, reference?: number): void {
  const ratio = reference === undefined ? "" : `  ${(bytes / reference).toFixed(2)}x`;
  console.log(`${name.padEnd(41)} ${bytes.toFixed(0).padStart(6)}${ratio}`);
}

async function measureOurs({ variant, perUser }: Population) {
  const authorities = await startAuthorities();
  const [client] = authorities.clients;
  const send = authorities.control.sendCommand.bind(authorities.control) as SendCommand;
  const create = async (userId: string) => {
    if (variant === "secure") return client!.createSecureSession({ userId, ...typicalLogin() });
    return client!.createDeviceSession({ userId, ...typicalLogin(), device: typicalDevice() });
  };
  // The first calls fill buffers and caches, which must not count as memory of sessions.
  await inParallel(1000, () => create(randomUUID()));
  await send(["FLUSHALL"]);
  const empty = await usedMemory(send);
  const users = usersOf(perUser);
  await inParallel(SESSIONS, (n) => create(users[n % users.length]!));
  const byKind = await memoryByKind(send);
  const withLogs = await usedMemory(send);
  await remove(send, CONSTANT_KINDS);
  const all = await usedMemory(send);
  await remove(send, ["a"]);
  const withoutAudit = await usedMemory(send);
  await authorities.close();
  return {
    all: (all - empty) / SESSIONS,
    withoutAudit: (withoutAudit - empty) / SESSIONS,
    constant: withLogs - all,
    byKind: [...byKind]
      .filter(([kind]) => !CONSTANT_KINDS.includes(kind))
      .map(([kind, bytes]) => [kind, bytes / SESSIONS] as const),
  };
}

async function measureTheirs({ variant, perUser }: Population) {
  const redis = await startRedisServer({ socket: true });
  const client = await connect(redis);
  const send = client.sendCommand.bind(client) as SendCommand;
  const sids = Array.from({ length: SESSIONS }, () => randomBytes(24).toString("base64url"));
  const users = usersOf(perUser);
  const ttl = String(SESSION_TTL_MS / 1000);
  // As above, the buffers must not count.
  await inParallel(1000, (n) => send(["SET", `warm-up ${n}`, "x".repeat(500)]));
  await send(["FLUSHALL"]);
  const empty = await usedMemory(send);
  await inParallel(SESSIONS, (n) =>
    send(["SET", `sess:${sids[n]}`, theirValue(variant, users[n % users.length]!), "EX", ttl]),
  );
  const values = await usedMemory(send);
  await inParallel(SESSIONS, async (n) => {
    const key = `user:${users[n % users.length]}:sessions`;
    await Promise.all([send(["SADD", key, sids[n]!]), send(["EXPIRE", key, ttl])]);
  });
  const all = await usedMemory(send);
  client.destroy();
  await redis.stop();
  return { values: (values - empty) / SESSIONS, all: (all - empty) / SESSIONS };
}

/** Returns the value that connect-redis stores, as express-session serialises it. */
function theirValue(variant: Variant, userId: string): string {
  const { ipAddress, userAgent, data } = typicalLogin();
  const expires = new Date(Date.now() + SESSION_TTL_MS).toISOString();
  const cookie = { originalMaxAge: SESSION_TTL_MS, expires, httpOnly: true, path: "/" };
  const device = variant === "device" ? { device: { ...typicalDevice(), type: "mobile" } } : {};
  return JSON.stringify({ cookie, userId, ipAddress, userAgent, ...device, data });
}

async function remove(send: SendCommand, kinds: readonly string[]): Promise<void> {
  for (const kind of kinds) {
    const keys = (await send(["KEYS", `sa:{*}:${kind}${kind.length === 1 ? ":*" : ""}`])) as string[];
    await inParallel(keys.length, (n) => send(["DEL", keys[n]!]));
  }
}

function usersOf(perUser: number): string[] {
  return Array.from({ length: SESSIONS / perUser }, () => randomUUID());
}

async function inParallel(count: number, run: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await run(next++);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
}

async function connect({ socketPath }: RedisServer) {
  const client = createClient({ socket: { path: socketPath!, tls: false } });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}
