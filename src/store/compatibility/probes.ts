// The probes: each tests one behaviour of a store with the command through which sessions depend on it.

import type { StoreReply } from "../connection/connection.ts";
import { StoreReplyError } from "../connection/errors.ts";
import { SENT_COMMANDS } from "./commands.ts";
import type { Probe, ProbeTools } from "./probe_tools.ts";

const TTL_MS = "60000";
/** How far the store's clock may move between two commands of one batch. */
const SLACK_MS = 2;

export const PROBES: readonly Probe[] = [
  {
    command: "EVAL",
    breaks: "every operation is one atomic script",
    async run({ send, key }) {
      const reply = await send("EVAL", "return {'ok', KEYS[1]}", "1", key("eval"));
      return texts(reply) === `ok ${key("eval")}` ? undefined : "a script does not return what it should";
    },
  },
  {
    command: "EVAL (Lua 5.1)",
    breaks: "the scripts are written in it, and take and return bytes",
    needs: "EVAL",
    async run({ send, key }) {
      const bytes = Buffer.from([0, 0xff, 0x80, 0xc3, 0x0a]);
      const reply = await send(
        "EVAL",
        "local KEY, bytes = unpack({KEYS[1], ARGV[1]}) return bytes",
        "1",
        key("lua"),
        bytes,
      );
      return Buffer.isBuffer(reply) && reply.equals(bytes)
        ? undefined
        : "a script does not receive the bytes that were sent";
    },
  },
  {
    command: "TIME",
    breaks: "sessions end by the store's clock",
    needs: "EVAL",
    async run({ send, key }) {
      const seconds = await send("EVAL", "return redis.call('TIME')[1]", "1", key("time"));
      return /^\d{9,}$/.test(String(seconds)) ? undefined : "it returns no time in a script";
    },
  },
  {
    command: "EVALSHA",
    breaks: "scripts are sent in full only after a NOSCRIPT error",
    async run({ send, key }) {
      try {
        await send("EVALSHA", "0".repeat(40), "1", key("evalsha"));
      } catch (error) {
        if (error instanceof StoreReplyError && error.code === "NOSCRIPT") return undefined;
        throw error;
      }
      return "it ran a script that does not exist";
    },
  },
  {
    command: "EVAL (struct)",
    breaks: "the record of a session is encoded with struct.pack and struct.unpack",
    needs: "EVAL",
    async run({ send, key }) {
      const script = `local packed = struct.pack('>Bd', 7, tonumber(ARGV[1]))
        local byte, number = struct.unpack('>Bd', packed)
        return {packed, byte, string.format('%.0f', number)}`;
      const largest = Buffer.alloc(9, 7);
      largest.writeDoubleBE(Number.MAX_SAFE_INTEGER, 1);
      const reply = await send("EVAL", script, "1", key("struct"), String(Number.MAX_SAFE_INTEGER));
      const [packed, byte, number] = Array.isArray(reply) ? reply : [];
      const exact = Buffer.isBuffer(packed) && packed.equals(largest);
      return exact && byte === 7 && String(number) === String(Number.MAX_SAFE_INTEGER)
        ? undefined
        : "struct.unpack does not return the double that was packed";
    },
  },
  {
    command: "EVAL (INFO)",
    breaks: "a failover is detected by the master_replid of INFO replication in a script",
    needs: "EVAL",
    async run({ send, key }) {
      const script = "return string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''";
      const reply = String(await send("EVAL", script, "1", key("info")));
      return reply === "" ? "INFO replication in a script has no master_replid" : undefined;
    },
  },
  {
    command: "PEXPIREAT",
    breaks: "sessions would not end at their deadline",
    async run({ send, key }) {
      const [set, now] = await Promise.all([send("SET", key("ttl"), "x", "PX", TTL_MS), send("TIME")]);
      if (set !== "OK") return "SET does not support PX";
      // Half a second away from the whole seconds, so that a store which rounds to them is always noticed.
      const deadline = Math.floor(milliseconds(now) / 1000) * 1000 + 30_500;
      const [, before, left, after] = await Promise.all([
        send("PEXPIREAT", key("ttl"), String(deadline)),
        send("TIME"),
        send("PTTL", key("ttl")),
        send("TIME"),
      ]);
      const earliest = milliseconds(before) + Number(left) - SLACK_MS;
      const latest = milliseconds(after) + Number(left) + SLACK_MS;
      if (deadline < earliest || deadline > latest) return "PTTL is not exact to the millisecond";
      await send("PEXPIREAT", key("ttl"), "1");
      return (await send("GET", key("ttl"))) === null ? undefined : "a key still exists after its deadline";
    },
  },
  {
    command: "SETRANGE",
    breaks: "a touched session would never end",
    async run({ send, key }) {
      await send("SET", key("setrange"), "abcdef", "PX", TTL_MS);
      await send("SETRANGE", key("setrange"), "2", "--");
      const [value, ttl] = await Promise.all([send("GET", key("setrange")), send("PTTL", key("setrange"))]);
      if (String(value) !== "ab--ef") return "it does not write in place";
      return keptTtl(ttl);
    },
  },
  {
    command: "HSET",
    breaks: "the fields of a session would outlive it",
    async run({ send, key }) {
      const minute = await inOneMinute(send);
      await Promise.all([send("HSET", key("hset"), "a", "1"), send("PEXPIREAT", key("hset"), minute)]);
      await send("HSET", key("hset"), "a", "2", "b", "3");
      return keptTtl(await send("PTTL", key("hset")));
    },
  },
  {
    command: "HINCRBY",
    breaks: "counters of a session would be wrong, or outlive it",
    async run({ send, key, trySend }) {
      const large = String(2n ** 62n);
      const minute = await inOneMinute(send);
      await Promise.all([send("HSET", key("hincrby"), "n", "1"), send("PEXPIREAT", key("hincrby"), minute)]);
      await send("HINCRBY", key("hincrby"), "n", large);
      const [value, ttl] = await Promise.all([send("HGET", key("hincrby"), "n"), send("PTTL", key("hincrby"))]);
      if (String(value) !== String(2n ** 62n + 1n)) return "it is not exact for 64-bit integers";
      const overflow = await trySend("HINCRBY", key("hincrby"), "n", large);
      if (overflow !== undefined) return "it does not refuse an overflow";
      return keptTtl(ttl);
    },
  },
  {
    command: "ZRANGEBYSCORE",
    breaks: "limits, lists and the sweep of ended sessions would be wrong",
    async run({ send, key }) {
      const members = ["1700000000001", "first", "1700000000002", "second", "1700000000003", "third"];
      const minute = await inOneMinute(send);
      await Promise.all([send("ZADD", key("zset"), ...members), send("PEXPIREAT", key("zset"), minute)]);
      const found = await send("ZRANGEBYSCORE", key("zset"), "(1700000000001", "+inf");
      if (texts(found) !== "second third") return "it does not return the members above a score";
      const count = Number(await send("ZCOUNT", key("zset"), "1700000000002", "+inf"));
      return count === 2 ? undefined : "ZCOUNT does not count the members from a score on";
    },
  },
  {
    command: "XADD",
    breaks: "watchers would miss changes, or receive one twice",
    async run({ send, key, trySend }) {
      const minute = await inOneMinute(send);
      const [id] = await Promise.all([
        send("XADD", key("stream"), "MAXLEN", "~", "100", "1700000000000-2", "c", "x"),
        send("PEXPIREAT", key("stream"), minute),
      ]);
      if (String(id) !== "1700000000000-2") return "it does not use the id in the command";
      for (const taken of ["1700000000000-2", "1700000000000-1", "1600000000000-9"]) {
        const added = await trySend("XADD", key("stream"), taken, "c", "x");
        if (added !== undefined) return "it accepts an id that is not above the last one";
      }
      const entries = await send("XRANGE", key("stream"), "(1700000000000-1", "+");
      return Array.isArray(entries) && entries.length === 1
        ? undefined
        : "XRANGE does not return the entry that was added";
    },
  },
  {
    command: "SUBSCRIBE",
    breaks: "invalidations would not be pushed",
    needs: "EVAL",
    async run({ send, key, subscribe }) {
      const channel = key("channel");
      const script = "return redis.call('PUBLISH', ARGV[1], ARGV[2])";
      const received = await subscribe(channel, () => send("EVAL", script, "1", key("publish"), channel, "ding"));
      return received === "ding" ? undefined : "a second connection does not receive what a script publishes";
    },
  },
  {
    command: "WAIT",
    breaks: SENT_COMMANDS.WAIT,
    async run({ send, warn }) {
      try {
        await send("WAIT", "0", "1");
      } catch (error) {
        // Other calls do without a command that the store does not know.
        if (!(error instanceof StoreReplyError && /unknown command/i.test(error.reply))) throw error;
        warn("the store does not know WAIT: calls that wait for replicas fail");
      }
      return undefined;
    },
  },
  {
    command: "CONFIG GET maxmemory-policy",
    breaks: "sessions would vanish when memory runs out: set maxmemory-policy to noeviction",
    async run(tools) {
      const policy = await maxmemoryPolicy(tools);
      if (policy === undefined) tools.warn("the store does not report its maxmemory-policy, which must be noeviction");
      return policy === undefined || policy === "noeviction" ? undefined : `it is ${policy}`;
    },
  },
];

async function maxmemoryPolicy(tools: ProbeTools): Promise<string | undefined> {
  const policy = await infoField(tools, "memory", "maxmemory_policy");
  if (policy !== undefined) return policy;
  const reply = await tools.trySend("CONFIG", "GET", "maxmemory-policy");
  return Array.isArray(reply) && reply.length >= 2 ? String(reply[1]) : undefined;
}

async function infoField({ trySend }: ProbeTools, section: string, field: string): Promise<string | undefined> {
  return new RegExp(`^${field}:(\\S+)`, "m").exec(String(await trySend("INFO", section)))?.[1];
}

function keptTtl(ttl: StoreReply): string | undefined {
  return typeof ttl === "number" && ttl > 0 ? undefined : "it erases the key's TTL";
}

/** Resolves to the time in a minute by the store's clock, as PEXPIREAT takes it. */
async function inOneMinute(send: ProbeTools["send"]): Promise<string> {
  return String(milliseconds(await send("TIME")) + Number(TTL_MS));
}

/** Converts the reply of TIME to whole milliseconds. */
export function milliseconds(time: StoreReply): number {
  const [seconds, microseconds] = Array.isArray(time) ? time : [];
  return Number(String(seconds)) * 1_000 + Math.floor(Number(String(microseconds)) / 1_000);
}

function texts(reply: StoreReply): string {
  return Array.isArray(reply) ? reply.map(String).join(" ") : String(reply);
}
