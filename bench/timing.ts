// Tests whether the duration of the token check reveals how much of a guess is right, as dudect does: Welch's t between guesses
// that are wrong only in their last byte and random guesses. Exits with 1 if |t| is 4.5 or more in every attempt.
//
// `node bench/timing.ts [measurements]`

import { createSecretKey, randomBytes, randomFillSync } from "node:crypto";
import { newSessionId } from "../src/domain/session_id.ts";
import { mintToken, newSecret, verifyToken, type TokenKeyRing } from "../src/domain/token.ts";
import { SessionValidator, type ValidationRequest } from "../src/service/validation/validator.ts";
import type { SessionRecord } from "../src/store/session_record.ts";
import { machine } from "./report.ts";

const MEASUREMENTS = Number(process.argv[2] ?? 600_000);
const SUSPICIOUS = 4.5;
const ATTEMPTS = 3;
/** The shares of the measurements that are compared, the fastest ones each time, since noise only adds time. */
const CROPS = [1, 0.999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.2, 0.1];
const BYTES = 32;

/** Checks a guess of 32 bytes. `prepare` is not measured. */
type Subject = { readonly right: Buffer; prepare(guess: Buffer): void; check(): unknown };

const secret = newSecret();
const sessionId = newSessionId(0);
const key = { kid: 1, key: createSecretKey(randomBytes(BYTES)) };
const ring: TokenKeyRing = { active: key, verifying: new Map([[key.kid, key]]) };
const genuine = mintToken(ring, "default", sessionId, secret);

/** The HMAC of a forged token. */
function forgedToken(): Subject {
  const bytes = Buffer.from(genuine.slice("sat1_".length), "base64url");
  const right = Buffer.from(bytes.subarray(-BYTES));
  let token = "";
  return {
    right,
    prepare(guess) {
      guess.copy(bytes, bytes.length - BYTES);
      token = `sat1_${bytes.toString("base64url")}`;
    },
    check: () => verifyToken(ring, "default", token),
  };
}

/** The digest of a genuine token's secret, against the record that the store has. */
function otherSecret(): Subject {
  const record: Partial<SessionRecord> = { sessionId, isOpenedByToken: true, secretDigest: Buffer.alloc(BYTES) };
  const validate = new SessionValidator({
    sessions: { readRecords: async () => [record] },
    secureSessions: { check: async () => undefined },
    keyRing: () => ring,
  } as never);
  const call = { principal: { tenant: "default", name: "bench" } } as never;
  const request: ValidationRequest = {
    ...{ credentialKind: "token", credential: genuine, touch: false, ipAddress: "" },
    ...{ maxAuthAgeMs: Infinity, minLevel: 0, includeFields: false },
  };
  return {
    right: secret.digest,
    prepare: (guess) => void guess.copy(record.secretDigest!),
    check: () => validate.validate(request, call),
  };
}

/** A comparison that stops at the first difference. If the bench does not detect this one, it detects nothing. */
function earlyExit(): Subject {
  const [right, presented] = [randomBytes(BYTES), Buffer.alloc(BYTES)];
  return {
    right,
    prepare: (guess) => void guess.copy(presented),
    check() {
      for (let i = 0; i < BYTES; i++) if (right[i] !== presented[i]) return false;
      return true;
    },
  };
}

/** Returns the duration of each check in ns, by class: 0 is wrong only in the last byte, 1 is random. */
async function measure(subject: Subject, count: number): Promise<[Float64Array, Float64Array]> {
  const taken = [new Float64Array(count), new Float64Array(count)] as const;
  const filled: [number, number] = [0, 0];
  const [noise, guess] = [Buffer.alloc(BYTES + 1), Buffer.alloc(BYTES)];
  while (filled[0] < count && filled[1] < count) {
    randomFillSync(noise);
    const group = (noise[BYTES]! & 1) as 0 | 1;
    // The same work for both classes, and wrong in the last byte for both.
    for (let i = 0; i < BYTES; i++) guess[i] = noise[i]! * group + subject.right[i]! * (1 - group);
    guess[BYTES - 1] = subject.right[BYTES - 1]! ^ (1 + (noise[BYTES - 1]! % 255));
    subject.prepare(guess);
    const startedNs = process.hrtime.bigint();
    const result = subject.check();
    if (result instanceof Promise) await result;
    taken[group][filled[group]++] = Number(process.hrtime.bigint() - startedNs);
  }
  return [taken[0].subarray(0, filled[0]), taken[1].subarray(0, filled[1])];
}

/** Returns the largest |t| of Welch's test over all crops. */
function largestT(fixed: Float64Array, random: Float64Array): number {
  const sorted = new Float64Array(fixed.length + random.length);
  sorted.set(fixed);
  sorted.set(random, fixed.length);
  sorted.sort();
  const limits = CROPS.map((share) => sorted[Math.ceil(share * sorted.length) - 1]!);
  const ts = limits.map((limit) => Math.abs(welchT(moments(fixed, limit), moments(random, limit))));
  // If the check leaks, one class may have no measurement below a low limit.
  return Math.max(...ts.filter((t) => !Number.isNaN(t)));
}

type Moments = { readonly count: number; readonly mean: number; readonly variance: number };

function moments(values: Float64Array, limit: number): Moments {
  let [count, mean, squares] = [0, 0, 0];
  for (const value of values) {
    if (value > limit) continue;
    count++;
    const delta = value - mean;
    mean += delta / count;
    squares += delta * (value - mean);
  }
  return { count, mean, variance: squares / (count - 1) };
}

function welchT(a: Moments, b: Moments): number {
  return (a.mean - b.mean) / Math.sqrt(a.variance / a.count + b.variance / b.count);
}

async function tOf(name: string, subject: Subject): Promise<number> {
  // Lets the code be compiled before the measurement.
  await measure(subject, MEASUREMENTS / 20);
  const t = largestT(...(await measure(subject, MEASUREMENTS / 2)));
  process.stdout.write(`${name}: |t| = ${t.toFixed(2)}\n`);
  return t;
}

/** Returns true if every attempt is suspicious: a leak appears in all of them, other load on the machine in some. */
async function isSuspicious(name: string, subject: Subject): Promise<boolean> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if ((await tOf(name, subject)) < SUSPICIOUS) return false;
  }
  return true;
}

process.stdout.write(`${machine()}; ${MEASUREMENTS} measurements each; suspicious from |t| = ${SUSPICIOUS}\n`);
const leaks = [
  await isSuspicious("HMAC of a forged token", forgedToken()),
  await isSuspicious("digest of another secret", otherSecret()),
];
const detected = (await tOf("for comparison, one that stops at the first difference", earlyExit())) >= SUSPICIOUS;
if (!detected) process.stdout.write("the comparison that leaks was not detected: take more measurements\n");
process.exitCode = leaks.includes(true) || !detected ? 1 : 0;
