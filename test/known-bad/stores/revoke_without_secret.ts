// Known bad: revokes a token by its session id without checking its secret. revokeWithoutSecret finds a session that a forged
// token ended. Its rotation compares first and writes after that. rotateAgainstRotate finds two winners.

import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { RedisClientType } from "redis";
import type { Part } from "../../race/subject.ts";

const IDLE_S = 1800;
const GRACE_MS = 10_000;
const EXPIRES = { expiration: { type: "EX", value: IDLE_S } } as const;

type Session = { userId: string; hash: string; previousHash: string; graceUntilMs: number };

export function tokenRevokedById(
  redis: () => RedisClientType,
): Part<"create" | "validate" | "rotate" | "revokeToken" | "forge"> {
  return {
    async create(userId) {
      const [id, secret] = [randomUUID(), newSecret()];
      const session: Session = { userId, hash: hashOf(secret), previousHash: "", graceUntilMs: 0 };
      await redis().set(keyOf(id), JSON.stringify(session), EXPIRES);
      return { id, bearer: `${id}.${secret}` };
    },

    async validate(token) {
      const { id, secret } = parse(token);
      const session = JSON.parse((await redis().get(keyOf(id))) ?? "null") as Session | null;
      return session !== null && stateOf(session, secret) !== "wrong";
    },

    async rotate(token) {
      const client = redis();
      const { id, secret } = parse(token);
      const session = JSON.parse((await client.get(keyOf(id))) ?? "null") as Session | null;
      if (session === null) return "gone";
      const state = stateOf(session, secret);
      if (state !== "current") return state === "previous" ? "rotated by another call" : "gone";
      const next = newSecret();
      const rotated = {
        ...session,
        hash: hashOf(next),
        previousHash: session.hash,
        graceUntilMs: Date.now() + GRACE_MS,
      };
      await client.set(keyOf(id), JSON.stringify(rotated), EXPIRES);
      return { token: `${id}.${next}` };
    },

    revokeToken: async (token) => (await redis().del(keyOf(parse(token).id))) === 1,

    forge: (token) => `${parse(token).id}.${newSecret()}`,
  };
}

function keyOf(id: string): string {
  return `session:${id}`;
}

function newSecret(): string {
  return randomBytes(32).toString("base64url");
}

function hashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}

function parse(token: string): { id: string; secret: string } {
  const [id = "", secret = ""] = token.split(".");
  return { id, secret };
}

function stateOf(session: Session, secret: string): "current" | "previous" | "wrong" {
  const hash = hashOf(secret);
  if (hash === session.hash) return "current";
  return hash === session.previousHash && Date.now() <= session.graceUntilMs ? "previous" : "wrong";
}
