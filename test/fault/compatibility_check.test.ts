// The compatibility check refuses every store that would lose or resurrect sessions, and names the command.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pino from "pino";
import { createStoreConnection } from "../../src/store/connection/connection.ts";
import {
  probeStore,
  StoreIncompatibleError,
  type ProbedStore,
} from "../../src/store/compatibility/compatibility_check.ts";
import { commandsToTry } from "../../src/store/compatibility/commands.ts";
import { parseStoreUrl } from "../../src/store/connection/store_url.ts";
import { redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { startTcpProxy } from "../helpers/tcp_proxy.ts";
import { errorReply, luaReply, startFaultyStore, type Rewrite } from "../helpers/resp_server.ts";

const log = pino({ level: "silent" });
const REPLICA = /is a replica, not a primary$/;

async function probe(url: string, withinMs = 8_000): Promise<ProbedStore> {
  const connection = createStoreConnection({ url: parseStoreUrl(url).url!, log });
  const call = { deadlineMs: performance.now() + withinMs, signal: new AbortController().signal };
  try {
    await connection.whenReady(call);
    return await probeStore(connection, call);
  } finally {
    await connection.close();
  }
}

async function failedCommands(url: string): Promise<string[]> {
  const error = await probe(url).then(
    () => assert.fail("the store was accepted"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof StoreIncompatibleError)) throw error;
  for (const { command, breaks } of error.failures) {
    assert.ok(error.message.includes(command) && error.message.includes(breaks), error.message);
  }
  return error.failures.map(({ command }) => command);
}

async function withServer(args: readonly string[], body: (server: RedisServer) => Promise<void>): Promise<void> {
  const server = await startRedisServer({ args });
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

describe("probes", { skip: redisServerMissing() }, () => {
  let server: RedisServer;
  before(async () => {
    server = await startRedisServer();
  });
  after(() => server.stop());

  test("a Redis 7 passes, and every key of the probes has a TTL", async () => {
    const { shebang, warnings, description } = await probe(server.url);
    assert.equal(shebang, true);
    assert.deepEqual(warnings, []);
    assert.match(description, /(?:Redis|Valkey) \d+\.\d+\.\d+ at redis:\/\/127/);
    const immortal = `local kept = {}
      for _, key in ipairs(redis.call('KEYS', '*')) do if redis.call('PTTL', key) < 0 then kept[#kept + 1] = key end end
      return #kept`;
    assert.equal(await server.command("EVAL", immortal, "0"), ":0");
  });

  test("a store that is slow to reply to SUBSCRIBE, and slow to deliver the message, is accepted", async () => {
    const store = await startFaultyStore(server, ([command, script]) => {
      if (command === "SUBSCRIBE" || (command === "EVAL" && script!.includes("'PUBLISH'"))) holdSubscribers();
      return undefined;
    });
    const proxy = await startTcpProxy(() => ({ host: "127.0.0.1", port: Number(new URL(store.url).port) }));
    function holdSubscribers(): void {
      proxy.blackhole(true, true);
      setTimeout(() => proxy.blackhole(false), 1200);
    }
    try {
      assert.equal((await probe(`redis://${proxy.address}`)).shebang, true);
    } finally {
      await proxy.stop();
      await store.stop();
    }
  });

  test("a store that evicts is refused", async () => {
    for (const policy of ["allkeys-lru", "volatile-ttl"]) {
      await withServer(["--maxmemory-policy", policy], async ({ url }) => {
        assert.deepEqual(await failedCommands(url), ["CONFIG GET maxmemory-policy"]);
      });
    }
  });

  test("the policy is found in INFO when CONFIG is not allowed", async () => {
    await withServer(["--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", ""], async ({ url }) => {
      assert.deepEqual(await failedCommands(url), ["CONFIG GET maxmemory-policy"]);
    });
  });

  test("a policy that the store does not report is a warning", async () => {
    const store = await startFaultyStore(server, ([command, section]) =>
      command === "CONFIG" || (command === "INFO" && section === "memory") ? errorReply("ERR not allowed") : undefined,
    );
    try {
      assert.match((await probe(store.url)).warnings.join(), /maxmemory-policy/);
    } finally {
      await store.stop();
    }
  });

  test("a replica is refused, and for that alone", async () => {
    await withServer(["--replicaof", "127.0.0.1", String(server.port)], async ({ url }) => {
      await assert.rejects(probe(url, 1_500), REPLICA);
    });
  });

  test("a replica is refused by INFO where ROLE does not exist", async () => {
    const args = ["--replicaof", "127.0.0.1", String(server.port), "--rename-command", "ROLE", ""];
    await withServer(args, async ({ url }) => assert.rejects(probe(url, 1_500), REPLICA));
  });

  const RENAMED = ["EVAL", "EVALSHA", "PEXPIREAT", "SETRANGE", "HSET", "HINCRBY", "ZRANGEBYSCORE", "XADD", "SUBSCRIBE"];
  for (const command of RENAMED) {
    test(`a store without ${command} is refused`, async () => {
      await withServer(["--rename-command", command, ""], async ({ url }) => {
        assert.ok((await failedCommands(url)).includes(command));
      });
    });
  }

  /** Executes the command, then the rest of the script. */
  const thenDo = (rest: string, args: readonly string[]): readonly string[] =>
    luaReply(`local reply = redis.call(unpack(ARGV)) ${rest} return reply`, args);
  const persists =
    (name: string): Rewrite =>
    (args) =>
      args[0] === name ? thenDo("redis.call('PERSIST', ARGV[2])", args) : undefined;

  const FAULTS: readonly [what: string, command: string, rewrite: Rewrite][] = [
    ["whose SETRANGE erases the TTL", "SETRANGE", persists("SETRANGE")],
    ["whose HSET erases the TTL", "HSET", persists("HSET")],
    ["whose HINCRBY erases the TTL", "HINCRBY", persists("HINCRBY")],
    [
      "that counts in doubles",
      "HINCRBY",
      (args) =>
        args[0] === "HINCRBY"
          ? luaReply(
              `local sum = tonumber(redis.call('HGET', ARGV[2], ARGV[3])) + tonumber(ARGV[4])
               return redis.call('HSET', ARGV[2], ARGV[3], string.format('%.0f', sum))`,
              args,
            )
          : undefined,
    ],
    [
      "whose deadlines are whole seconds",
      "PEXPIREAT",
      (args) =>
        args[0] === "PEXPIREAT" ? ["EXPIREAT", args[1]!, String(Math.floor(Number(args[2]) / 1_000))] : undefined,
    ],
    [
      "that chooses stream ids itself",
      "XADD",
      (args) => (args[0] === "XADD" ? args.map((arg) => (/^\d+-\d+$/.test(arg) ? "*" : arg)) : undefined),
    ],
    [
      "that accepts a smaller stream id",
      "XADD",
      (args) =>
        args[0] === "XADD"
          ? luaReply(
              `local reply = redis.pcall(unpack(ARGV))
               if type(reply) ~= 'table' or not reply.err then return reply end
               return ARGV[3]`,
              args,
            )
          : undefined,
    ],
    [
      "with scores of 32 bits",
      "ZRANGEBYSCORE",
      (args) =>
        args[0] === "ZADD"
          ? args.map((arg) => (/^\d+$/.test(arg) ? String(Math.fround(Number(arg))) : arg))
          : undefined,
    ],
    [
      "that loses what is published",
      "SUBSCRIBE",
      ([name, ...channels]) =>
        name === "SUBSCRIBE" ? [name, ...channels.map((channel) => `${channel}-elsewhere`)] : undefined,
    ],
    ["that refuses SUBSCRIBE", "SUBSCRIBE", (args) => (args[0] === "SUBSCRIBE" ? errorReply("ERR no") : undefined)],
    ["that runs no scripts", "EVAL", (args) => (args[0] === "EVAL" ? errorReply("ERR unknown command") : undefined)],
    [
      "that does not reply NOSCRIPT",
      "EVALSHA",
      (args) => (args[0] === "EVALSHA" ? errorReply("ERR unknown script") : undefined),
    ],
    [
      "whose struct cuts numbers",
      "EVAL (struct)",
      (args) =>
        args[0] === "EVAL" && args[1]!.includes("struct.pack")
          ? args.map((arg, index) => (index === 1 ? arg.replaceAll("'>Bd'", "'>Bf'") : arg))
          : undefined,
    ],
    [
      "without a replication id",
      "EVAL (INFO)",
      (args) =>
        args[0] === "EVAL" && args[1]!.includes("master_replid")
          ? args.map((arg, index) => (index === 1 ? arg.replace("'replication'", "'clients'") : arg))
          : undefined,
    ],
  ];
  for (const [what, command, rewrite] of FAULTS) {
    test(`a store ${what} is refused`, async () => {
      const store = await startFaultyStore(server, rewrite);
      try {
        assert.deepEqual(await failedCommands(store.url), [command]);
      } finally {
        await store.stop();
      }
    });
  }

  test("a store whose scripts know few commands is refused, and every command that it lacks is named", async () => {
    // As in the source of Ferrite, see docs/stores.md.
    const known =
      "GET SET DEL EXISTS INCR DECR MGET APPEND STRLEN HGET HSET HDEL HEXISTS HGETALL HMGET RPUSH LRANGE SADD SREM SMEMBERS PTTL HLEN PING";
    const few = `local all, known = redis, ' ${known} '
      local function call(run, command, ...)
        if string.find(known, ' ' .. command .. ' ', 1, true) then return run(command, ...) end
        return {err = "ERR unknown command '" .. command .. "' in Lua script"}
      end
      local redis = {call = function(...) return call(all.call, ...) end, pcall = function(...) return call(all.pcall, ...) end}
      local table, unpack, struct = {unpack = unpack}, nil, nil\n`;
    const store = await startFaultyStore(server, ([name, script, ...rest]) =>
      name === "EVAL" ? [name, script!.startsWith("#!") ? script! : few + script!, ...rest] : undefined,
    );
    try {
      const missing = new Set(await failedCommands(store.url));
      for (const [command] of commandsToTry())
        assert.equal(missing.has(command), !known.split(" ").includes(command), command);
      assert.ok(missing.has("EVAL (Lua 5.1)") && missing.has("EVAL (struct)"));
    } finally {
      await store.stop();
    }
  });

  test("a store that does not support the #! line gets scripts without it", async () => {
    const store = await startFaultyStore(server, (args) =>
      args[0] === "EVAL" && args[1]!.startsWith("#!") ? errorReply("ERR syntax error") : undefined,
    );
    try {
      const { shebang, warnings } = await probe(store.url);
      assert.equal(shebang, false);
      assert.match(warnings.join(), /allow-oom/);
    } finally {
      await store.stop();
    }
  });

  test("a store that cannot be reached is not called incompatible", async () => {
    const store = await startFaultyStore(server, (args) =>
      args[0] === "HSET" ? errorReply("LOADING Redis is loading the dataset in memory") : undefined,
    );
    try {
      await assert.rejects(probe(store.url), { reason: "STORE_UNAVAILABLE" });
    } finally {
      await store.stop();
    }
  });
});
