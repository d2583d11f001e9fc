// `npm run bench:scale`: measures the CPU time of a call, in the service and in the store, as the number of sessions grows: of
// all stored sessions, and of one user's.

import { OnExceed } from "../gen/session/v1/session_pb.ts";
import { createAuthorityClient, type AuthorityClient } from "../test/helpers/grpc_client.ts";
import { startRedisServer, type RedisServer } from "../test/helpers/redis_server.ts";
import { startServerProcess, type ServerProcess } from "../test/helpers/server_process.ts";
import { cpuMicros } from "./process_cpu.ts";
import { machine, median } from "./report.ts";
import { seedSessions } from "./seed.ts";
import { typicalLogin, typicalSegments } from "./typical_session.ts";

const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 21);
const WARM_UPS = 3;
const MANY = Number(process.env["BENCH_SESSIONS"] ?? 1_000_000);
const FEW = 1000;
const MANY_OF_ONE_USER = 10_000;
const VALIDATIONS = Number(process.env["BENCH_VALIDATIONS"] ?? 2000);
const CREATES = 100;
const IN_FLIGHT = 16;

type Instance = { readonly redis: RedisServer; readonly server: ServerProcess; readonly client: AuthorityClient };
type Cost = { readonly server: number; readonly store: number };
/** The bench measures `run`, and not `undo`. */
type Contestant = {
  readonly name: string;
  readonly instance: Instance;
  readonly calls: number;
  readonly run: () => Promise<unknown>;
  readonly undo?: () => Promise<unknown>;
  /** The contestant with few sessions, to which the ratios of this one are. */
  readonly against?: Contestant;
};

const small = await start();
const large = await start();
console.log(`${machine()}; ${ROUNDS} rounds, medians; CPU us for each call`);

const fewIds = await inParallel(FEW, (n) => create(small, `user-${n}`));
const someOfMany = await seedSessions(large.redis, {
  ...{ tenant: "default", count: MANY, users: MANY },
  ...typicalSegments(),
});
for (const sessionId of someOfMany) await validate(large, sessionId);
console.log(await large.redis.command("DBSIZE"), `keys in the store of ${MANY.toLocaleString("en")} sessions`);
const idsOfOneUser = await inParallel(MANY_OF_ONE_USER, () => create(small, "one user"));

const validateOf = (name: string, instance: Instance, ids: readonly string[], against?: Contestant): Contestant => ({
  ...{ name, instance, calls: VALIDATIONS, ...(against && { against }) },
  run: () => inParallel(VALIDATIONS, (n) => validate(instance, ids[(n * 7919) % ids.length]!)),
});
const few = validateOf(`validate, ${FEW} sessions stored`, small, fewIds);
await compare([few, validateOf(`validate, ${MANY} sessions stored`, large, someOfMany, few)]);
const alone = validateOf("validate, each the only one of its user", small, fewIds);
await compare([
  alone,
  validateOf(`validate, all ${MANY_OF_ONE_USER} of one user`, small, idsOfOneUser.slice(0, FEW), alone),
]);

const rejected = await creating("REJECT below the limit", OnExceed.REJECT, "reject", 10, 10 + CREATES);
const rejectedOfMany = await creating(
  "REJECT below the limit",
  OnExceed.REJECT,
  "reject",
  MANY_OF_ONE_USER - CREATES,
  MANY_OF_ONE_USER,
  rejected,
);
await compare([rejected, rejectedOfMany]);
const evicting = await creating("EVICT_OLDEST at the limit", OnExceed.EVICT_OLDEST, "evict", 10, 10);
const evictingOfMany = await creating(
  "EVICT_OLDEST at the limit",
  OnExceed.EVICT_OLDEST,
  "evict",
  MANY_OF_ONE_USER,
  MANY_OF_ONE_USER,
  evicting,
);
await compare([evicting, evictingOfMany]);

for (const { client, server, redis } of [small, large]) {
  client.close();
  await server.kill();
  await redis.stop();
}
process.exit();

/** Measures logins of a user who has `held` sessions before each round, under a limit of `most`. */
async function creating(
  name: string,
  onExceed: OnExceed,
  user: string,
  held: number,
  most: number,
  against?: Contestant,
): Promise<Contestant> {
  const userId = `${user} ${held}`;
  await inParallel(held, () => create(small, userId));
  let created: string[] = [];
  const limit = { maxSessions: most, onExceed };
  return {
    name: `create, ${name}, user with ${held} sessions`,
    ...{ instance: small, calls: CREATES, ...(against && { against }) },
    run: async () => (created = await inParallel(CREATES, () => create(small, userId, limit))),
    undo: async () => {
      if (held === most) return;
      await inParallel(CREATES, (n) => small.client.deleteSession({ sessionId: created[n]! }));
    },
  };
}

/** Measures the contestants in turn, and prints the medians of the costs and of the ratios of each round. */
async function compare(contestants: readonly Contestant[]): Promise<void> {
  const costs = new Map<Contestant, Cost[]>(contestants.map((contestant) => [contestant, []]));
  for (let round = -WARM_UPS; round < ROUNDS; round++) {
    // Alternates the order, so that no contestant always runs second.
    for (const contestant of round % 2 === 0 ? contestants : contestants.toReversed()) {
      const cost = await measure(contestant);
      await contestant.undo?.();
      if (round >= 0) costs.get(contestant)!.push(cost);
    }
  }
  for (const contestant of contestants) {
    const own = costs.get(contestant)!;
    const other = contestant.against && costs.get(contestant.against)!;
    const text = (["server", "store", "both"] as const).map((part) => {
      const ratio = other ? median(own.map((cost, n) => of(cost, part) / of(other[n]!, part))).toFixed(2) + "x" : "";
      return `${part} ${median(own.map((cost) => of(cost, part))).toFixed(1)} ${ratio}`.padEnd(20);
    });
    console.log(`${contestant.name.padEnd(62)} ${text.join(" ")}`);
  }
}

function of({ server, store }: Cost, part: "server" | "store" | "both"): number {
  return { server, store, both: server + store }[part];
}

async function measure({ instance: { server, redis }, calls, run }: Contestant): Promise<Cost> {
  const [serverBefore, storeBefore] = [cpuMicros(server.pid), cpuMicros(redis.pid)];
  await run();
  return {
    server: (cpuMicros(server.pid) - serverBefore) / calls,
    store: (cpuMicros(redis.pid) - storeBefore) / calls,
  };
}

async function start(): Promise<Instance> {
  const redis = await startRedisServer({ socket: true });
  const server = await startServerProcess(redis);
  return { redis, server, client: createAuthorityClient(server.address) };
}

async function create({ client }: Instance, userId: string, limit?: object): Promise<string> {
  const { session } = await client.createSession({ userId, ...typicalLogin(), ...(limit && { limit }) });
  return session!.sessionId;
}

async function validate({ client }: Instance, sessionId: string): Promise<void> {
  const { session } = await client.validateSession({ sessionId });
  if (session?.sessionId !== sessionId) throw new Error(`${sessionId} is not valid`);
}

async function inParallel<T>(count: number, run: (n: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const n = next++;
      results[n] = await run(n);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  return results;
}
