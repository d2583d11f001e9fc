// A million genuine tokens and ids are distinct and verify, a million others do not, and a bad token costs no store call.

import assert from "node:assert/strict";
import { createSecretKey, createHash, randomBytes, randomInt } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { ValidateTokenRequestSchema } from "../../gen/session/v1/secure_sessions_pb.ts";
import { newSessionId, partitionOfSessionId } from "../../src/domain/session_id.ts";
import { mintToken, newSecret, verifyToken, type Secret, type TokenKeyRing } from "../../src/domain/token.ts";
import { startAuthorities, type Authorities } from "../helpers/authority.ts";
import { CallError, type AuthorityClient } from "../helpers/grpc_client.ts";
import { redisServerMissing } from "../helpers/redis_server.ts";

const MILLION = 1_000_000;
const SECRET_AT = 2 + 21;
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const keyOf = (kid: number) => ({ kid, key: createSecretKey(randomBytes(32)) });
const ringOf = (active: ReturnType<typeof keyOf>, ...others: ReturnType<typeof keyOf>[]): TokenKeyRing => ({
  active,
  verifying: new Map([active, ...others].map((key) => [key.kid, key])),
});
const bytesOf = (token: string) => Buffer.from(token.slice("sat1_".length), "base64url");
const digestOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest();

/** Returns true if all are distinct in 64 bits; a collision by chance happens in one of 10^7 runs. */
function allDistinct(prefixes: BigUint64Array): boolean {
  prefixes.sort();
  return prefixes.every((prefix, i) => i === 0 || prefix !== prefixes[i - 1]);
}

test("10^6 tokens and ids all verify and are distinct", () => {
  const ring = ringOf(keyOf(65_535));
  const [ids, secrets] = [new BigUint64Array(MILLION), new BigUint64Array(MILLION)];
  for (let i = 0; i < MILLION; i++) {
    const sessionId = newSessionId(i % 256);
    const secret = newSecret();
    const token = mintToken(ring, "t", sessionId, secret);
    const verified = verifyToken(ring, "t", token);
    if (partitionOfSessionId(sessionId) !== i % 256 || verified?.sessionId !== sessionId) {
      assert.fail(`${token} of ${sessionId} does not verify`);
    }
    if (!verified.digest.equals(secret.digest)) assert.fail(`${token} has another digest`);
    ids[i] = Buffer.from(sessionId, "base64url").readBigUInt64BE(1);
    secrets[i] = secret.secret.readBigUInt64BE();
  }
  assert.ok(allDistinct(ids), "two ids are equal");
  assert.ok(allDistinct(secrets), "two secrets are equal");
});

test("10^6 forged or malformed tokens: none verifies, none throws", () => {
  const [active, old] = [keyOf(7), keyOf(6)];
  const ring = ringOf(active, old);
  const stranger = ringOf({ ...active, key: createSecretKey(randomBytes(32)) });
  const genuine = Array.from({ length: 500 }, () => mintToken(ring, "t", newSessionId(randomInt(256)), newSecret()));
  genuine.push(...Array.from({ length: 500 }, () => mintToken(ringOf(old), "t", newSessionId(0), newSecret())));
  const known = new Set(genuine);
  for (const token of genuine) assert.ok(verifyToken(ring, "t", token), "a genuine token does not verify");

  for (let tried = 0; tried < MILLION;) {
    const [a, b] = [genuine[randomInt(1000)]!, genuine[randomInt(1000)]!];
    const token = MUTATIONS[tried % MUTATIONS.length]!(a, b, stranger);
    // A mutation may change nothing.
    if (known.has(token)) continue;
    tried++;
    let verified;
    try {
      verified = verifyToken(ring, "t", token);
    } catch (error) {
      assert.fail(`${JSON.stringify(token)} throws ${String(error)}`);
    }
    if (verified !== undefined) assert.fail(`${JSON.stringify(token)} verifies`);
  }
  for (const token of genuine) assert.equal(verifyToken(ring, "u", token), undefined, "verifies for another tenant");
});

const letter = () => ALPHABET[randomInt(64)]!;
const replaced = (text: string, at: number, length: number, by: string) =>
  text.slice(0, at) + by + text.slice(at + length);
const resigned = (ring: TokenKeyRing, tenant: string, token: string) => {
  const bytes = bytesOf(token);
  const secret: Secret = { secret: bytes.subarray(SECRET_AT, SECRET_AT + 32), digest: Buffer.alloc(32) };
  return mintToken(ring, tenant, bytes.toString("base64url", 2, SECRET_AT), secret);
};

const MUTATIONS: readonly ((a: string, b: string, stranger: TokenKeyRing) => string)[] = [
  (a) => replaced(a, randomInt(a.length), 1, letter()),
  (a) => replaced(a, 5 + randomInt(a.length - 5), 1, letter()),
  (a) => replaced(a, randomInt(a.length), 1, String.fromCharCode(randomInt(0x10000))),
  (a) => replaced(a, randomInt(a.length), 1 + randomInt(5), ""),
  (a) => replaced(a, randomInt(a.length + 1), 0, letter()),
  (a) => replaced(a, randomInt(a.length), 2, letter() + letter()),
  (a) => a.slice(0, randomInt(a.length)),
  (a) => a + ["=", "==", " ", "\n", "\u0000", "A", a][randomInt(7)]!,
  (a) => [" ", "\n", "Bearer ", "sat1_"][randomInt(4)]! + a,
  (a) => a.replace("sat1_", ["sat2_", "SAT1_", "sat1-", "", "sat1__"][randomInt(5)]!),
  (a) => `sat1_${a.slice(5).replaceAll("-", "+").replaceAll("_", "/")}`,
  (a) => `sat1_${randomInt(2) ? a.slice(5).toUpperCase() : a.slice(5).toLowerCase()}`,
  (a, b) => {
    const at = 5 + randomInt(a.length - 5);
    return a.slice(0, at) + b.slice(at);
  },
  // The signed part of one, the HMAC of another.
  (a, b) => `sat1_${Buffer.concat([bytesOf(a).subarray(0, 55), bytesOf(b).subarray(55)]).toString("base64url")}`,
  (a) => {
    const bytes = bytesOf(a);
    bytes[randomInt(bytes.length)]! ^= 1 << randomInt(8);
    return `sat1_${bytes.toString("base64url")}`;
  },
  (a) => `sat1_${Buffer.concat([bytesOf(a).subarray(0, 2), randomBytes(85)]).toString("base64url")}`,
  () => `sat1_${randomBytes(87).toString("base64url")}`,
  () => `sat1_${randomBytes(randomInt(200)).toString("base64url")}`,
  () => randomBytes(randomInt(200)).toString("latin1"),
  (a, _b, stranger) => resigned(stranger, "t", a),
];

describe("through the service", { skip: redisServerMissing() }, () => {
  const [active, verifyOnly, retired, unknown] = [keyOf(2), keyOf(3), keyOf(1), keyOf(4)];
  const apiKeys = { ours: "key-of-ours", theirs: "key-of-theirs" };
  const as = (caller: keyof typeof apiKeys) => ({ metadata: { authorization: `Bearer ${apiKeys[caller]}` } });
  let directory: string;
  let authorities: Authorities;
  let client: AuthorityClient;
  let traffic: Traffic;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "sa-tokens-"));
    const entry = ({ kid, key }: typeof active, state: string) => ({
      kid,
      key: key.export().toString("base64url"),
      state,
    });
    const ring = [entry(active, "active"), entry(verifyOnly, "verify-only"), entry(retired, "retired")];
    const callers = Object.entries(apiKeys).map(([name, key]) => {
      return { name, tenant: name, sha256: digestOf(Buffer.from(key)).toString("hex"), scopes: ["read", "write"] };
    });
    const [SA_TOKEN_KEYS_FILE, SA_API_KEYS_FILE] = [join(directory, "ring.json"), join(directory, "callers.json")];
    await writeFile(SA_TOKEN_KEYS_FILE, JSON.stringify({ keys: ring }));
    await writeFile(SA_API_KEYS_FILE, JSON.stringify({ keys: callers }));
    authorities = await startAuthorities({ env: { SA_TOKEN_KEYS_FILE, SA_API_KEYS_FILE } });
    client = authorities.clients[0]!;
    traffic = await watchTraffic(authorities);
  });
  after(async () => {
    traffic.close();
    await authorities.assertStoreSound();
    await authorities.close();
    await rm(directory, { recursive: true });
  });

  const validate = (token: string) => {
    const request = toBinary(ValidateTokenRequestSchema, create(ValidateTokenRequestSchema, { token }));
    return client.raw("validateToken", request, as("ours"));
  };
  const failureOf = async (call: Promise<unknown>) => {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof CallError, "succeeded");
    return Object.assign({ message: error.message }, error);
  };

  test("a bad token costs no store call and gets the response of an expired one, by every method", async () => {
    const [mine, expired] = await Promise.all([
      client.createSecureSession({ userId: "u" }, as("ours")),
      client.createSecureSession({ userId: "u" }, as("ours")),
    ]);
    const theirs = await client.createSecureSession({ userId: "u" }, as("theirs"));
    await authorities.expireNow(expired.session!.sessionId);
    const expected = {
      validate: await validate(expired.token),
      rotate: await failureOf(client.rotateToken({ token: expired.token }, as("ours"))),
      regenerate: await failureOf(client.regenerateSession({ token: expired.token }, as("ours"))),
      revoke: await client.revokeToken({ token: expired.token }, as("ours")),
    };
    assert.deepEqual([expected.rotate.reason, expected.revoke.deleted], ["SESSION_NOT_FOUND", false]);

    const bad: Record<string, string[]> = {
      malformed: ["x", "sat1_", mine.token.slice(0, -1), `${mine.token}A`, ` ${mine.token}`, "\u0000", "s".repeat(256)],
      forged: Array.from({ length: 87 }, (_, i) => {
        const bytes = bytesOf(mine.token);
        bytes[i]! ^= 1;
        return `sat1_${bytes.toString("base64url")}`;
      }),
      "of another ring": [resigned(ringOf({ ...active, key: createSecretKey(randomBytes(32)) }), "ours", mine.token)],
      "of an unknown kid": [resigned(ringOf(unknown), "ours", mine.token)],
      "of a retired kid": [resigned(ringOf(retired), "ours", mine.token)],
      "of another tenant": [theirs.token, resigned(ringOf(active), "theirs", mine.token)],
    };
    for (const [what, tokens] of Object.entries(bad)) {
      const commands = await traffic.during(async () => {
        for (const token of tokens) {
          assert.deepEqual(await validate(token), expected.validate, what);
          assert.deepEqual(await failureOf(client.rotateToken({ token }, as("ours"))), expected.rotate, what);
          assert.deepEqual(await failureOf(client.regenerateSession({ token }, as("ours"))), expected.regenerate, what);
          assert.deepEqual(await client.revokeToken({ token }, as("ours")), expected.revoke, what);
        }
      });
      assert.deepEqual(commands, [], `${what}: cost store calls`);
    }

    // The count works: a good token costs a store call. A token of a verify-only key is good, too.
    const commands = await traffic.during(() => validate(mine.token));
    assert.match(commands.join(), new RegExp(`"GET" "sa:.*${mine.session!.sessionId}`));
    for (const token of [mine.token, resigned(ringOf(verifyOnly), "ours", mine.token)]) {
      const { session } = await client.validateToken({ token, touch: false }, as("ours"));
      assert.deepEqual(session, mine.session);
    }
  });
});

type Traffic = { during(run: () => Promise<unknown>): Promise<string[]>; close(): void };

// The commands that are not those of calls: the service's own (pings, fences, the clock, the tails of the change logs; the lease of the
// sweep, its reads, and its script on 4 keys) and the commands inside scripts.
const BACKGROUND =
  / lua\] |\] "(PING|TIME|MGET|XRANGE)"|\] "(SET|DEL)" "sa:\{\w+\}:(sweep|fence)"|\] "ZRANGE" "sa:\{\w+\}:live"|\] "EVAL(SHA)?" "(\\.|[^"\\])*" ("4"|"1" "sa:\{\w+\}:sweep") /;

/** Records the commands that calls send to the store, by its MONITOR. */
async function watchTraffic({ redis, control }: Authorities): Promise<Traffic> {
  const lines: string[] = [];
  let onLines: () => void = () => undefined;
  let rest = "";
  const socket: Socket = connect(redis.socketPath!);
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    const received = (rest + chunk).split("\r\n");
    rest = received.pop()!;
    lines.push(...received);
    onLines();
  });
  socket.write("MONITOR\r\n");

  let marks = 0;
  /** Sends a marker. Returns the index of its line, once it and all lines before it are here. */
  async function mark(): Promise<number> {
    const text = `"mark-${marks++}"`;
    await control.sendCommand(["ECHO", text.slice(1, -1)]);
    for (;;) {
      const at = lines.findLastIndex((line) => line.includes(text));
      if (at >= 0) return at;
      await new Promise<void>((resolve) => (onLines = resolve));
    }
  }

  return {
    async during(run) {
      const from = await mark();
      await run();
      return lines.slice(from + 1, await mark()).filter((line) => !BACKGROUND.test(line));
    },
    close: () => socket.destroy(),
  };
}
