// The race suite: what must hold in every interleaving of calls. Each race runs many rounds, each round on its own users,
// and throws at the first violation.

import assert from "node:assert/strict";
import { race, rivals, valueOf } from "../helpers/races.ts";
import type { HeldSession, Login, Part, RaceSubject, Variant } from "./subject.ts";

const VARIANTS: readonly Variant[] = ["simple", "hash", "secure", "device"];
/** How many calls compete to rotate or to regenerate. */
const RIVALS = 3;
/** See src/store/lua/includes/rotation.lua. */
const CONCURRENT_MS = 2_000;

/** Rotations of one token: one wins, the others learn that another call won, and only the winner's token goes on. */
export async function rotateAgainstRotate(
  subject: Part<"create" | "rotate" | "validate">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { bearer } = await login(subject, `rotate-${index}`, { variant: "secure" });
    const startedMs = performance.now();
    const rotations = await allOf(times(RIVALS, () => () => subject.rotate(bearer)));
    const again = await subject.rotate(bearer);
    // Rotations are concurrent for 2 s. On a busy machine, a round that took longer says nothing.
    if (performance.now() - startedMs > CONCURRENT_MS / 2) return;
    assert.equal(again, "rotated by another call", "two tokens are live");
    const tokens = rotations.flatMap((rotation) => (typeof rotation === "object" ? [rotation.token] : []));
    assert.equal(tokens.length, 1, `${tokens.length} rotations won`);
    const others = rotations.filter((rotation) => typeof rotation !== "object");
    assert.deepEqual(others, Array(RIVALS - 1).fill("rotated by another call"));
    assert.ok(await subject.validate(tokens[0]!), "the winner's token is dead");
    assert.ok(await subject.validate(bearer), "the old token is dead within its grace");
  });
}

/** Regenerations of one session: one wins, and one session is alive afterwards, with its data. */
export async function regenerateAgainstRegenerate(
  subject: Part<"create" | "regenerate" | "access" | "validate" | "list">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const [user, note] = [`regenerate-${index}`, `note ${index}`];
    const old = await login(subject, user, { ...variantOf(index), note });
    const regenerated = await allOf(times(RIVALS, () => () => subject.regenerate(old.bearer)));
    const successors = regenerated.filter((session) => session !== undefined);
    assert.equal(successors.length, 1, `${successors.length} regenerations won`);
    await assertDead(subject, old.bearer);
    assert.equal(await subject.access(successors[0]!.bearer), note, "the successor lacks the session's data");
    assert.deepEqual(await subject.list(user), [successors[0]!.id]);
  });
}

/** 20 logins of one user at once under a limit of 3, of all variants, while another call counts the sessions. */
export async function createAgainstLimit(subject: Part<"create" | "list" | "validate">, rounds: number): Promise<void> {
  await race(rounds, async (index) => {
    const user = `limit-${index}`;
    const onExceed = index % 2 === 0 ? "reject" : "evict";
    const creates = times(20, (n) => () => subject.create(user, { ...variantOf(n), limit: { max: 3, onExceed } }));
    const [counted, ...outcomes] = await rivals(() => subject.list(user), ...creates);
    assert.ok(valueOf(counted).length <= 3, `${valueOf(counted).length} sessions were alive under a limit of 3`);
    const made = outcomes.map(valueOf).filter((held) => held !== undefined);
    const listed = await subject.list(user);
    assert.equal(listed.length, 3, `${listed.length} sessions are alive under a limit of 3`);
    assert.equal(made.length, onExceed === "reject" ? 3 : 20, `${onExceed}: ${made.length} logins succeeded`);
    // Checks the sessions of the index and a few others. The scan at the end finds records that are in no index.
    const checked = made.filter(({ id }) => listed.includes(id) || Math.random() < 0.1);
    const verdicts = await Promise.all(checked.map(({ bearer }) => subject.validate(bearer)));
    const alive = checked.filter((_, n) => verdicts[n]).map(({ id }) => id);
    assert.deepEqual(alive.toSorted(), listed.toSorted(), "the index disagrees");
  });
}

/** Logins at the limit of a user with so many sessions that the store keeps their order, against other changes of them. */
export async function createAmongManySessions(
  subject: Part<"create" | "access" | "remove" | "expire" | "regenerate" | "revokeAll" | "validate">,
  rounds: number,
): Promise<void> {
  const most = 66;
  const lanes = 4;
  const evict: Login = { limit: { max: most, onExceed: "evict" } };
  await race(
    Math.ceil(rounds / 50),
    async (index) => {
      const user = `many-${index}`;
      const sessions = await Promise.all(times(most + 4, (n) => login(subject, user, variantOf(n))));
      // From this login on, the store keeps the order of the sessions.
      sessions.push(await login(subject, user, evict));
      const any = () => sessions[Math.floor(Math.random() * sessions.length)]!;
      const [revoked, removed, regenerated, , ...outcomes] = await rivals(
        async () => (index % 4 === 0 ? subject.revokeAll(user) : 0),
        () => subject.remove(any().id),
        () => subject.regenerate(any().bearer),
        // The session may already be gone by another call.
        () => subject.expire(any().id),
        ...times(4, (n) => () => login(subject, user, { ...variantOf(n), ...evict })),
        ...times(4, () => () => subject.access(any().bearer)),
      );
      for (const outcome of [revoked, removed, ...outcomes]) valueOf<unknown>(outcome);
      const made = outcomes.slice(0, 4).map((outcome) => valueOf(outcome) as HeldSession);
      const successor = valueOf(regenerated);
      const all = [...sessions, ...made, ...(successor ? [successor] : [])];
      const verdicts = await Promise.all(all.map(({ bearer }) => subject.validate(bearer)));
      const alive = verdicts.filter(Boolean).length;
      assert.ok(alive <= most, `${alive} sessions are alive under a limit of ${most}`);
      if (valueOf(revoked) > 0) return;
      assert.ok(alive >= most - 2, `only ${alive} sessions are alive under a limit of ${most}`);
      for (const { bearer } of made) assert.ok(await subject.validate(bearer), "a login was evicted before older ones");
    },
    lanes,
  );
}

/** Ways to revoke against accesses and rotations: after one has returned, no token of the session is valid. */
export async function revokeAgainstValidate(
  subject: Part<"create" | "validate" | "access" | "remove"> & Partial<Part<"rotate" | "revokeAll" | "revokeToken">>,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const user = `revoke-${index}`;
    const how = variantOf(index);
    const { id, bearer } = await login(subject, user, how);
    const secure = how.variant === "secure";
    const ways = [
      () => subject.remove(id),
      async () => (await subject.revokeAll?.(user)) === 1,
      async () => (await subject.revokeToken?.(bearer)) === true,
    ].filter((_, n) => n === 0 || (n === 1 ? subject.revokeAll : secure && subject.revokeToken));
    const revoke = ways[Math.floor(index / VARIANTS.length) % ways.length]!;
    const [revoked, rotated] = await rivals(
      async () => {
        assert.ok(await revoke(), "the revoke ended nothing");
        assert.ok(!(await subject.validate(bearer)), "valid after the revoke returned");
      },
      async () => (secure ? await subject.rotate?.(bearer) : undefined),
      () => subject.validate(bearer),
      () => subject.access(bearer),
    );
    valueOf(revoked);
    await assertDead(subject, bearer);
    const rotation = valueOf(rotated);
    if (typeof rotation === "object") await assertDead(subject, rotation.token);
  });
}

/** Accesses that slide the idle timeout against a delete: the session never comes back. */
export async function slideAgainstDelete(
  subject: Part<"create" | "access" | "validate" | "remove" | "keysOf">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { id, bearer } = await login(subject, `slide-${index}`, variantOf(index));
    const [removed, ...accesses] = await rivals(
      () => subject.remove(id),
      () => subject.access(bearer),
      () => subject.access(bearer),
    );
    assert.ok(valueOf(removed), "the delete ended nothing");
    accesses.forEach(valueOf);
    await assertDead(subject, bearer);
    assert.deepEqual(await subject.keysOf(id), []);
  });
}

/** A login against the revocation of all sessions of its user: every live session is in the list. */
export async function revokeAllAgainstCreate(
  subject: Part<"create" | "revokeAll" | "validate" | "list">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const user = `revoke-all-${index}`;
    const old = await allOf(times(2, (n) => () => login(subject, user, variantOf(index + n + 1))));
    const [created, revoked] = await rivals(
      () => login(subject, user, variantOf(index)),
      () => subject.revokeAll(user),
    );
    const { id, bearer } = valueOf(created);
    for (const session of old) await assertDead(subject, session.bearer);
    const alive = await subject.validate(bearer);
    assert.deepEqual(await subject.list(user), alive ? [id] : [], "a session is alive that no list contains");
    assert.equal(valueOf(revoked), alive ? 2 : 3, "the count of ended sessions is wrong");
  });
}

/** Logins of one user on one device: the last one stays. */
export async function deviceLoginAgainstDeviceLogin(
  subject: Part<"create" | "validate" | "listDevices">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const user = `device-${index}`;
    const device: Login = { variant: "device", deviceId: `phone of ${user}` };
    const logins = await allOf(times(2, () => () => login(subject, user, device)));
    const verdicts = await Promise.all(logins.map(({ bearer }) => subject.validate(bearer)));
    const alive = logins.filter((_, n) => verdicts[n]).map(({ id }) => id);
    assert.equal(alive.length, 1, `${alive.length} sessions are alive on one device`);
    assert.deepEqual(await subject.listDevices(user), alive);
  });
}

/** Logins of two users on one device: neither affects the other's session. */
export async function twoUsersOnOneDevice(
  subject: Part<"create" | "validate" | "listDevices">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const device: Login = { variant: "device", deviceId: `family tablet ${index}` };
    const users = ["ada", "bob"].map((name) => `${name}-${index}`);
    const logins = await allOf(users.map((user) => () => login(subject, user, device)));
    for (const [n, { id, bearer }] of logins.entries()) {
      assert.ok(await subject.validate(bearer), "a login on a shared device ended another user's session");
      assert.deepEqual(await subject.listDevices(users[n]!), [id], "a shared device is not in the list of each user");
    }
  });
}

/** Writes of fields against the session's end, by a delete or by its timeout: no key comes back. */
export async function fieldWriteAgainstEnd(
  subject: Part<"create" | "setField" | "validate" | "remove" | "expire" | "keysOf">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { id, bearer } = await login(subject, `fields-${index}`, { variant: "hash", note: "x" });
    const outcomes = await rivals(
      () => (index % 2 === 0 ? subject.remove(id) : subject.expire(id)),
      () => subject.setField(id, "seen", "now"),
      () => subject.setField(id, "page", "/"),
    );
    outcomes.forEach(valueOf);
    assert.deepEqual(await subject.keysOf(id), [], "a write brought a key back");
    assert.ok(!(await subject.setField(id, "late", "x")), "a dead session took a field");
    await assertDead(subject, bearer);
  });
}

/** A revoke with a forged secret ends nothing. One with a rotated token ends the session exactly if it reports so. */
export async function revokeWithoutSecret(
  subject: Part<"create" | "rotate" | "validate" | "revokeToken" | "forge">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { bearer } = await login(subject, `secret-${index}`, { variant: "secure" });
    const [revoked, rotated, valid] = await rivals(
      () => subject.revokeToken(subject.forge(bearer)),
      () => subject.rotate(bearer),
      () => subject.validate(bearer),
    );
    const second = valueOf(rotated);
    assert.ok(!valueOf(revoked) && typeof second === "object", "a forged token ended the session");
    assert.ok(valueOf(valid), "a token was dead while it was rotated");
    const third = await subject.rotate(second.token);
    assert.ok(typeof third === "object", "a forged token ended the session");
    const ended = await subject.revokeToken(bearer);
    assert.equal(
      await subject.validate(third.token),
      !ended,
      "a revoke with a rotated token reported the wrong outcome",
    );
  });
}

/** A process that may die on the way ends a session: the end is published exactly if it took place, and not before. */
export async function endAgainstPublication(
  subject: Part<"create" | "validate" | "endSteps" | "onEnded" | "publicationsDelivered">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { id, bearer } = await login(subject, `publication-${index}`, variantOf(index));
    const verdicts: Promise<boolean>[] = [];
    subject.onEnded(id, () => {
      const verdict = subject.validate(bearer);
      // It may reject before it is awaited below.
      verdict.catch(() => undefined);
      verdicts.push(verdict);
    });
    const steps = subject.endSteps(id);
    const diesAfter = Math.floor(Math.random() * (steps.length + 1));
    const [ended] = await rivals(
      async () => {
        for (const step of steps.slice(0, diesAfter)) await step();
      },
      () => subject.validate(bearer),
    );
    valueOf(ended);
    const dead = !(await subject.validate(bearer));
    await subject.publicationsDelivered();
    assert.equal(
      verdicts.length,
      dead ? 1 : 0,
      dead ? "a session has ended without a publication" : "published without an end",
    );
    for (const verdict of verdicts) assert.ok(!(await verdict), "an end was published before it was visible");
  });
}

/** All races, for a subject that implements every operation. */
export const RACES: Readonly<Record<string, (subject: RaceSubject, rounds: number) => Promise<void>>> = {
  rotateAgainstRotate,
  regenerateAgainstRegenerate,
  createAgainstLimit,
  createAmongManySessions,
  revokeAgainstValidate,
  slideAgainstDelete,
  revokeAllAgainstCreate,
  deviceLoginAgainstDeviceLogin,
  twoUsersOnOneDevice,
  fieldWriteAgainstEnd,
  revokeWithoutSecret,
  endAgainstPublication,
};

function times<T>(count: number, make: (n: number) => T): T[] {
  return Array.from({ length: count }, (_, n) => make(n));
}

function variantOf(n: number): Login & { variant: Variant } {
  const variant = VARIANTS[n % VARIANTS.length]!;
  return { variant, ...(variant === "device" && { deviceId: `device ${n}` }) };
}

async function login(subject: Part<"create">, userId: string, how: Login = {}): Promise<HeldSession> {
  const held = await subject.create(userId, how);
  assert.ok(held, "refused without a limit");
  return held;
}

/** The values of calls that are started as rivals and must all succeed. */
async function allOf<T>(calls: (() => Promise<T>)[]): Promise<T[]> {
  return (await rivals(...calls)).map(valueOf);
}

async function assertDead(subject: Part<"validate">, bearer: string): Promise<void> {
  assert.ok(!(await subject.validate(bearer)), "alive after its end");
}
