// Random operations on sessions of all variants. Each returns the changes that its response acknowledges.

import { OnExceed, RevocationReason, Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { ownerOf, partitionOfOwner } from "../../src/domain/owner.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { race } from "../helpers/races.ts";
import type { Write } from "./history.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

type Held = {
  readonly id: string;
  readonly variant: "simple" | "hash" | "secure" | "device";
  readonly device: string;
  token: string;
  /** The token before the last rotation. */
  stale: string;
  version: bigint;
  /** How often the store had lost its data when the session was created. */
  readonly losses: number;
};
type User = { readonly id: string; readonly held: Map<string, Held> };

/** The changes that a call acknowledged. */
type Acked = [sessionId: string, reason: string, version?: bigint][];

/** The response does not show what happened, so the state of the user is unknown from here on. */
class Unsure extends Error {}

const DEVICES = ["phone", "laptop"];

export type Writers = {
  readonly writes: Write[];
  /** All users so far. */
  readonly userIds: string[];
  readonly sessionIds: string[];
  /** Runs this many operations, several at a time. */
  run(operations: number): Promise<void>;
  /** Makes this many changes of one user, to fill the queues of watchers. */
  flood(changes: number): Promise<void>;
};

export function createWriters(world: World, random: Random, prefix: string, lanes = 6): Writers {
  const writes: Write[] = [];
  const userIds: string[] = [];
  const sessionIds: string[] = [];
  const users: User[] = Array.from({ length: lanes }, newUser);

  function newUser(): User {
    // Some user ids are long, to make large messages.
    const id = `${prefix}-u${userIds.length}${random.chance(0.2) ? "x".repeat(200) : ""}`;
    userIds.push(id);
    return { id, held: new Map() };
  }

  function client(): AuthorityClient {
    const alive = world.instances.filter((instance) => instance.alive);
    return random.pick(alive).client;
  }

  async function step(lane: number): Promise<void> {
    const user = users[lane]!;
    const startMs = performance.now();
    try {
      const acked = await operate(user);
      const ackedMs = performance.now();
      for (const [sessionId, reason, version] of acked) {
        writes.push({ sessionId, userId: user.id, reason, version, startMs, ackedMs });
      }
    } catch {
      // Which sessions of the user are alive is unknown now. Earlier acknowledged changes must still be sent.
      users[lane] = newUser();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  function operate(user: User): Promise<Acked> {
    if (user.held.size === 0 || (user.held.size < 6 && random.chance(0.35))) return create(user);
    if (random.chance(0.04)) return revokeAll(user);
    const held = random.pick([...user.held.values()]);
    const choices = [update, remove, invalidate, regenerate, expire];
    if (held.variant === "hash") choices.push(increment, setFields, increment);
    if (held.variant === "secure") choices.push(rotate, rotate, revokeToken, reuse);
    if (held.variant === "device") choices.push(revokeDevice);
    return random.pick(choices)(user, held);
  }

  async function create(user: User): Promise<Acked> {
    const losses = world.losses();
    const variant = random.pick(["simple", "hash", "secure", "device"] as const);
    const evicts = random.chance(0.08);
    const limit = { maxSessions: 1, onExceed: OnExceed.EVICT_OLDEST };
    const common = { userId: user.id, ...(evicts && { limit }) };
    const device = variant === "device" ? random.pick(DEVICES) : "";
    const response: { session?: Session | undefined; token?: string } = await {
      simple: () => client().createSession({ ...common, data: { a: 1 } }),
      hash: () => client().createHashSession({ ...common, fields: { n: "0" } }),
      secure: () => client().createSecureSession({ ...common, data: { a: 1 } }),
      device: () => client().createDeviceSession({ ...common, device: { deviceId: device } }),
    }[variant]();
    const replaced = [...user.held.values()].filter((held) => evicts || (device !== "" && held.device === device));
    for (const { id } of replaced) user.held.delete(id);
    const { sessionId: id, version } = response.session!;
    sessionIds.push(id);
    user.held.set(id, { id, variant, token: response.token ?? "", stale: "", device, version, losses });
    const isReplaced = (held: Held) => device !== "" && held.device === device;
    return replaced.filter(isKept).map((held) => [held.id, isReplaced(held) ? "device_replaced" : "evicted"]);
  }

  async function update(_user: User, held: Held): Promise<Acked> {
    await client().updateSessionData({ sessionId: held.id, data: { a: random.below(1000) } });
    return changed(held);
  }

  async function setFields(_user: User, held: Held): Promise<Acked> {
    await client().setSessionFields({ sessionId: held.id, fields: { n: String(random.below(100)) } });
    return changed(held);
  }

  async function increment(_user: User, held: Held): Promise<Acked> {
    await client().incrementSessionField({ sessionId: held.id, field: "n", delta: 1n });
    return changed(held);
  }

  async function rotate(_user: User, held: Held): Promise<Acked> {
    const { token } = await client().rotateToken({ token: held.token });
    held.stale = held.token;
    held.token = token;
    return changed(held);
  }

  async function reuse(user: User, held: Held): Promise<Acked> {
    if (held.stale === "") return rotate(user, held);
    await world.authorities.passGrace(held.id);
    const { verdict } = await client().validateToken({ token: held.stale });
    if (verdict !== Verdict.INVALID || !isKept(held)) throw new Unsure();
    return ended(user, held, "token_reused");
  }

  async function remove(user: User, held: Held): Promise<Acked> {
    const { deleted } = await client().deleteSession({ sessionId: held.id });
    return ended(user, held, "deleted", deleted);
  }

  async function invalidate(user: User, held: Held): Promise<Acked> {
    const { UNSPECIFIED, STOLEN_CREDENTIAL, POLICY } = RevocationReason;
    const reason = random.pick([UNSPECIFIED, STOLEN_CREDENTIAL, POLICY]);
    const { deleted } = await client().invalidateSession({ sessionId: held.id, reason, actor: "histories" });
    return ended(user, held, "revoked", deleted);
  }

  async function revokeToken(user: User, held: Held): Promise<Acked> {
    const { deleted } = await client().revokeToken({ token: held.token });
    return ended(user, held, "revoked", deleted);
  }

  async function revokeDevice(user: User, held: Held): Promise<Acked> {
    const { deleted } = await client().revokeDevice({ userId: user.id, deviceId: held.device });
    return ended(user, held, "device_revoked", deleted);
  }

  async function regenerate(user: User, held: Held): Promise<Acked> {
    const bearer = held.variant === "secure" ? { token: held.token } : { sessionId: held.id };
    const { session, token } = await client().regenerateSession(bearer);
    user.held.delete(held.id);
    const { sessionId: id, version } = session!;
    sessionIds.push(id);
    // The previous token belongs to another session id, so its reuse would not end this session.
    user.held.set(id, { ...held, id, token, stale: "", version });
    return [[held.id, "regenerated"]];
  }

  async function revokeAll(user: User): Promise<Acked> {
    const { deletedCount } = await client().deleteUserSessions({ userId: user.id });
    if (deletedCount !== user.held.size) throw new Unsure();
    const ids = [...user.held.keys()];
    user.held.clear();
    return ids.map((id) => [id, "user_revoked"]);
  }

  async function expire(user: User, held: Held): Promise<Acked> {
    await world.authorities.expireNow(held.id);
    await world.sweep(partitionOfOwner(ownerOf("default", user.id)));
    return ended(user, held, "expired");
  }

  // Some responses are the same if the store lost the session; then they acknowledge nothing.
  function isKept(held: Held): boolean {
    return held.losses === world.losses();
  }

  // Only one call at a time changes a session, so each change is the next version.
  function changed(held: Held): Acked {
    held.version++;
    return [[held.id, "changed", held.version]];
  }

  function ended(user: User, { id }: Held, reason: string, deleted = true): Acked {
    user.held.delete(id);
    if (!deleted) throw new Unsure();
    return [[id, reason]];
  }

  return {
    writes,
    userIds,
    sessionIds,
    async run(operations) {
      let left = operations;
      await Promise.all(
        users.map(async (_, lane) => {
          while (left-- > 0) await step(lane);
        }),
      );
    },
    async flood(changes) {
      const userId = `${prefix}-flood${"y".repeat(235)}`;
      userIds.push(userId);
      // The previous fault may still have an effect.
      const created = await client()
        .createHashSession({ userId, fields: { n: "0" } })
        .catch(() => undefined);
      if (created === undefined) return;
      const { sessionId, version: first } = created.session!;
      await race(changes, async () => {
        const startMs = performance.now();
        const { value } = await client().incrementSessionField({ sessionId, field: "n", delta: 1n });
        const version = first + value;
        writes.push({ sessionId, userId, reason: "changed", version, startMs, ackedMs: performance.now() });
      }).catch(() => undefined);
    },
  };
}
