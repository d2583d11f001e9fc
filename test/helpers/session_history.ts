// Concurrent histories of one user's session, and the model that they must agree with.

import { status } from "@grpc/grpc-js";
import { Verdict, type Session } from "../../gen/session/v1/session_pb.ts";
import { CallError, type AuthorityClient } from "./grpc_client.ts";
import type { Model, Operation } from "./linearizability.ts";

export type SessionOp =
  | { readonly kind: "validate" | "list" | "increment" | "delete" | "deleteAll" }
  | { readonly kind: "set"; readonly value: number };

/** What an operation has seen; `-1` for a session that is not there. */
export type SessionResult = string;

type State = { readonly isAlive: boolean; readonly version: number; readonly counter: number; readonly value: number };

const GONE: SessionResult = "gone";
const stateText = ({ version, counter, value }: State) => `version ${version} counter ${counter} value ${value}`;

export const SESSION_MODEL: Model<State, SessionOp, SessionResult> = {
  initial: { isAlive: true, version: 1, counter: 0, value: 0 },
  apply(state, op) {
    const { isAlive, version } = state;
    if (!isAlive) return { state, result: op.kind === "delete" || op.kind === "deleteAll" ? "0" : GONE };
    switch (op.kind) {
      case "validate":
      case "list":
        return { state, result: stateText(state) };
      case "increment": {
        const after = { ...state, version: version + 1, counter: state.counter + 1 };
        return { state: after, result: String(after.counter) };
      }
      case "set": {
        const after = { ...state, version: version + 1, value: op.value };
        return { state: after, result: stateText(after) };
      }
      case "delete":
      case "deleteAll":
        return { state: { ...state, isAlive: false }, result: "1" };
    }
  },
  isSame: (expected, actual) => expected === actual,
  keyOf: (state) => `${state.isAlive} ${stateText(state)}`,
};

export type SessionHistory = Operation<SessionOp, SessionResult>[];

const LANES = 4;
const OPERATIONS = 8;
const READS = ["validate", "list"] as const;
const CHANGES = ["increment", "set"] as const;
const ENDS = ["delete", "deleteAll"] as const;

/** Runs one history over the clients, each lane through one of them. Resolves to undefined if the session was not created. */
export async function recordHistory(
  clients: readonly AuthorityClient[],
  userId: string,
): Promise<SessionHistory | undefined> {
  const created = await clients[0]!
    .createSession({ userId, data: { value: 0 }, fields: { counter: "0" } })
    .catch(() => undefined);
  if (created === undefined) return undefined;
  const { sessionId } = created.session!;
  const isEnded = Math.random() < 0.5;
  const history: SessionHistory = [];
  let nextValue = 1;
  const lane = async (n: number) => {
    const client = clients[n % clients.length]!;
    for (let i = 0; i < OPERATIONS; i++) {
      // The session ends late, so that the history has something before that.
      const kinds = [...READS, ...CHANGES, ...(isEnded && i >= OPERATIONS / 2 ? ENDS : [])];
      const kind = kinds[Math.floor(Math.random() * kinds.length)]!;
      const op: SessionOp = kind === "set" ? { kind, value: nextValue++ } : { kind };
      const calledMs = performance.now();
      const result = await perform(client, op, userId, sessionId);
      if (result !== undefined) {
        history.push({ op, calledMs, returnedMs: performance.now(), result });
        continue;
      }
      // A read whose outcome is unknown says nothing. Many changes of unknown outcome would fit almost any history.
      if (READS.some((read) => read === kind)) continue;
      history.push({ op, calledMs, returnedMs: Infinity, result });
      return;
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, n) => lane(n)));
  return history;
}

/** Resolves to undefined if the outcome is unknown. */
async function perform(
  client: AuthorityClient,
  op: SessionOp,
  userId: string,
  sessionId: string,
): Promise<SessionResult | undefined> {
  try {
    switch (op.kind) {
      case "validate": {
        const { verdict, session } = await client.validateSession({ sessionId, includeFields: true, touch: false });
        return verdict === Verdict.VALID ? textOf(session!) : GONE;
      }
      case "list": {
        const { sessions } = await client.listUserSessions({ userId });
        return sessions.length === 0 ? GONE : textOf(sessions[0]!);
      }
      case "increment":
        return String((await client.incrementSessionField({ sessionId, field: "counter", delta: 1n })).value);
      case "set":
        return textOf((await client.updateSessionData({ sessionId, data: { value: op.value } })).session!);
      case "delete":
        return String(Number((await client.deleteSession({ sessionId })).deleted));
      case "deleteAll":
        return String((await client.deleteUserSessions({ userId })).deletedCount);
    }
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    if (error.code === status.NOT_FOUND) return GONE;
    if (error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED) return undefined;
    throw error;
  }
}

function textOf({ version, data, fields }: Session): SessionResult {
  return stateText({
    ...{ isAlive: true, version: Number(version), counter: Number(fields["counter"]) },
    value: Number(data!["value"]),
  });
}
