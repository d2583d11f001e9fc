// The race suite: what must hold whatever the interleaving. Each race runs many rounds, every round on users of its own,
// and throws on the first violation.

import assert from "node:assert/strict";
import { race, rivals, valueOf } from "../helpers/races.ts";
import type { Held, Login, Part, RaceSubject, Variant } from "./subject.ts";

const VARIANTS: readonly Variant[] = ["simple", "hash", "secure", "device"];
/** How many calls want to be the one that rotates, or regenerates. */
const RIVALS = 3;

/** N calls with one bearer: one rotates it, every other is told so; then its token is the one that goes on. */
export async function rotateAgainstRotate(
  subject: Part<"create" | "rotate" | "validate">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { bearer } = await login(subject, `rotate-${index}`, { variant: "secure" });
    const answers = await allOf(times(RIVALS, () => () => subject.rotate(bearer)));
    const tokens = answers.flatMap((answer) => (typeof answer === "object" ? [answer.token] : []));
    assert.equal(tokens.length, 1, `${tokens.length} rotations won`);
    const others = answers.filter((answer) => typeof answer !== "object");
    assert.deepEqual(others, Array(RIVALS - 1).fill("rotated by another call"));
    assert.ok(await subject.validate(tokens[0]!), "the winner's token is dead");
    assert.ok(await subject.validate(bearer), "the old token is dead within its grace");
    assert.equal(await subject.rotate(bearer), "rotated by another call", "two tokens are live");
  });
}

/** N regenerations of one session: one wins; one session is alive afterwards, with what it kept. */
export async function regenerateAgainstRegenerate(
  subject: Part<"create" | "regenerate" | "access" | "validate" | "list">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const [user, note] = [`regenerate-${index}`, `note ${index}`];
    const old = await login(subject, user, { ...variantOf(index), note });
    const answers = await allOf(times(RIVALS, () => () => subject.regenerate(old.bearer)));
    const successors = answers.filter((answer) => answer !== undefined);
    assert.equal(successors.length, 1, `${successors.length} regenerations won`);
    await assertDead(subject, old.bearer);
    assert.equal(await subject.access(successors[0]!.bearer), note, "the successor is not what the session was");
    assert.deepEqual(await subject.list(user), [successors[0]!.id]);
  });
}

/** 20 logins of one user at once under a limit of 3, of all variants, and somebody who counts meanwhile. */
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
    // Those of the index and a few of the others: that no record is in no index is for the scan at the end to see.
    const asked = made.filter(({ id }) => listed.includes(id) || Math.random() < 0.1);
    const verdicts = await Promise.all(asked.map(({ bearer }) => subject.validate(bearer)));
    const alive = asked.filter((_, n) => verdicts[n]).map(({ id }) => id);
    assert.deepEqual(alive.toSorted(), listed.toSorted(), "the index disagrees");
  });
}

/** Logins of a user with more sessions than the store looks at one by one, at the limit, against what else moves them. */
export async function createAgainstCrowd(
  subject: Part<"create" | "access" | "remove" | "expire" | "regenerate" | "revokeAll" | "validate">,
  rounds: number,
): Promise<void> {
  const most = 66;
  const lanes = 4;
  const evict: Login = { limit: { max: most, onExceed: "evict" } };
  await race(
    Math.ceil(rounds / 50),
    async (index) => {
      const user = `crowd-${index}`;
      const crowd = await Promise.all(times(most + 4, (n) => login(subject, user, variantOf(n))));
      // From now on the store keeps their order.
      crowd.push(await login(subject, user, evict));
      const any = () => crowd[Math.floor(Math.random() * crowd.length)]!;
      const [revoked, removed, regenerated, , ...outcomes] = await rivals(
        async () => (index % 4 === 0 ? subject.revokeAll(user) : 0),
        () => subject.remove(any().id),
        () => subject.regenerate(any().bearer),
        // A timeout ends what is there; whether it is, is up to the others.
        () => subject.expire(any().id),
        ...times(4, (n) => () => login(subject, user, { ...variantOf(n), ...evict })),
        ...times(4, () => () => subject.access(any().bearer)),
      );
      for (const outcome of [revoked, removed, ...outcomes]) valueOf<unknown>(outcome);
      const made = outcomes.slice(0, 4).map((outcome) => valueOf(outcome) as Held);
      const successor = valueOf(regenerated);
      const all = [...crowd, ...made, ...(successor ? [successor] : [])];
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

/** Ways to revoke against accesses and rotations: once one has returned, no token of the session opens anything. */
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
        assert.ok(!(await subject.validate(bearer)), "VALID after the revoke returned");
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

/** A login against the revocation of all sessions of its user: nothing is alive that no list shows. */
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
    assert.deepEqual(await subject.list(user), alive ? [id] : [], "a session is alive that no list shows");
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

/** Logins of two users on one device: neither touches the other's session. */
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
      assert.deepEqual(await subject.listDevices(users[n]!), [id], "a shared device is not shown as each user's own");
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

/** A revoke by who does not hold the token ends nothing; one by a token rotated away does what it says. */
export async function revokeWithoutProof(
  subject: Part<"create" | "rotate" | "validate" | "revokeToken" | "forge">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { bearer } = await login(subject, `proof-${index}`, { variant: "secure" });
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
    assert.equal(await subject.validate(third.token), !ended, "a stale token did not do what it said");
  });
}

/** A writer that may die under way ends a session: the feed tells it exactly if it is dead, and never too early. */
export async function endAgainstFeed(
  subject: Part<"create" | "validate" | "endSteps" | "onEnded" | "feedDelivered">,
  rounds: number,
): Promise<void> {
  await race(rounds, async (index) => {
    const { id, bearer } = await login(subject, `feed-${index}`, variantOf(index));
    const verdicts: Promise<boolean>[] = [];
    subject.onEnded(id, () => {
      const verdict = subject.validate(bearer);
      // It may fail before it is looked at below.
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
    await subject.feedDelivered();
    assert.equal(verdicts.length, dead ? 1 : 0, "a session has ended and nobody was told, or the reverse");
    for (const verdict of verdicts) assert.ok(!(await verdict), "told of an end before it was visible");
  });
}

/** All of them, for a subject that answers everything. */
export const RACES: Readonly<Record<string, (subject: RaceSubject, rounds: number) => Promise<void>>> = {
  rotateAgainstRotate,
  regenerateAgainstRegenerate,
  createAgainstLimit,
  createAgainstCrowd,
  revokeAgainstValidate,
  slideAgainstDelete,
  revokeAllAgainstCreate,
  deviceLoginAgainstDeviceLogin,
  twoUsersOnOneDevice,
  fieldWriteAgainstEnd,
  revokeWithoutProof,
  endAgainstFeed,
};

function times<T>(count: number, make: (n: number) => T): T[] {
  return Array.from({ length: count }, (_, n) => make(n));
}

function variantOf(n: number): Login & { variant: Variant } {
  const variant = VARIANTS[n % VARIANTS.length]!;
  return { variant, ...(variant === "device" && { deviceId: `device ${n}` }) };
}

async function login(subject: Part<"create">, userId: string, how: Login = {}): Promise<Held> {
  const held = await subject.create(userId, how);
  assert.ok(held, "refused without a limit");
  return held;
}

/** The values of calls that are started as rivals and must all succeed. */
async function allOf<T>(calls: (() => Promise<T>)[]): Promise<T[]> {
  return (await rivals(...calls)).map(valueOf);
}

async function assertDead(subject: Part<"validate">, bearer: string): Promise<void> {
  assert.ok(!(await subject.validate(bearer)), "alive after it was ended");
}
