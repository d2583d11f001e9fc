// Runs an EndSessions: walks the sessions, ends those that the filter selects in small steps, and reports the progress.

import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EndSessionsRequest, EndSessionsResponseSchema } from "../../gen/session/v1/admin_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { invalidField } from "../domain/errors.ts";
import { decodePageToken, encodePageToken } from "../domain/page_token.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import type { SessionRecord } from "../store/session_record.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import { revocationWord } from "./revocation.ts";
import {
  changeableConditions,
  filterScope,
  hasCondition,
  sessionMatcher,
  type SessionMatcher,
} from "./session_filter.ts";
import {
  decodeTenantPosition,
  encodeTenantPosition,
  ownTenant,
  placesFrom,
  tenantsOf,
  type TenantPosition,
} from "./tenant_scope.ts";

type Progress = MessageInitShape<typeof EndSessionsResponseSchema>;
type Dependencies = Pick<ServiceDependencies, "adminSessions" | "adminEnd" | "requestTimeoutMs">;

/** The store is blocked for so many sessions at once: well under 5 ms. */
const ENDS_PER_SCRIPT = 10;
/** After so many sessions the run lets other calls pass. */
const EXAMINED_PER_STEP = 500;
/** For each ms of work, so many ms of pause. */
const PAUSE_SHARE = 1;
const PROGRESS_INTERVAL_MS = 200;

/** @throws SessionError INVALID_REQUEST, SCOPE_MISSING, and those of the store. */
export async function* endSessions(
  deps: Dependencies,
  request: EndSessionsRequest,
  call: CallContext,
): AsyncGenerator<Progress, void, undefined> {
  const { filter, tenant: requested } = request;
  if (filter !== undefined && !hasCondition(filter)) {
    throw invalidField("filter", "must have a condition; to end all sessions, set `all`");
  }
  const step = deadlinePerStep(call, deps.requestTimeoutMs);
  const scope = ["end", request.dryRun, ownTenant(requested, call) ?? "*", filterScope(filter)].join(" ");
  const token = decodePageToken(scope, request.resumeToken, "resume_token");
  const { beganMs, place } = token === "" ? { beganMs: await deps.adminEnd.now(step) } : decodeResumePosition(token);
  const resumeToken = (at: TenantPosition) => encodePageToken(scope, encodeResumePosition(beganMs, at));
  // What was created later is none of this run's business, otherwise it would never end.
  const selects = sessionMatcher(filter);
  const matches: SessionMatcher = (record) => record.createdExactMs <= beganMs && selects(record);

  const userIds = filter && filter.userIds.length > 0 ? filter.userIds : undefined;
  let [endedCount, examinedCount, reportedMs] = [0, 0, performance.now()];
  let at = place ?? { tenant: "", position: "" };
  for (const { tenant, position: from } of placesFrom(await tenantsOf(requested, deps.adminSessions, step), place)) {
    const ender = createEnder(deps, request, step);
    for await (const { stored, position } of deps.adminSessions.walk(tenant, userIds, from, step)) {
      examinedCount++;
      if (matches(stored.record)) ender.add(stored.record);
      if (!ender.isFull() && examinedCount % EXAMINED_PER_STEP !== 0) continue;
      endedCount += await ender.flush();
      at = { tenant, position };
      if (performance.now() < reportedMs + PROGRESS_INTERVAL_MS) continue;
      yield progress(false);
      reportedMs = performance.now();
    }
    endedCount += await ender.flush();
  }
  yield progress(true);

  function progress(done: boolean): Progress {
    const counts = { endedCount: BigInt(endedCount), examinedCount: BigInt(examinedCount) };
    return { ...counts, resumeToken: at.tenant === "" ? "" : resumeToken(at), done };
  }
}

/** Returns the call with a deadline for each command that it sends from now on, because the stream itself may have none. */
function deadlinePerStep(call: CallContext, timeoutMs: number): CallContext {
  const { principal, signal } = call;
  return {
    principal,
    signal,
    get deadlineMs() {
      return Math.min(call.deadlineMs, performance.now() + timeoutMs);
    },
  };
}

/** Collects sessions and ends them together. */
function createEnder({ adminEnd }: Dependencies, request: EndSessionsRequest, call: CallContext) {
  const { dryRun, reason, actor, note } = request;
  const how = { revocationReason: revocationWord(reason), actor, note };
  const conditions = changeableConditions(request.filter);
  let collected: SessionRecord[] = [];
  let workedSinceMs = performance.now();

  return {
    add: (record: SessionRecord) => void collected.push(record),
    isFull: () => !dryRun && collected.length >= ENDS_PER_SCRIPT,

    /** Ends what was collected, and pauses. Returns how many sessions ended; in a dry run, how many would have. */
    async flush(): Promise<number> {
      const records = collected;
      collected = [];
      let ended = dryRun ? records.length : 0;
      const groups = Map.groupBy(dryRun ? [] : records, ({ sessionId }) => partitionOfSessionId(sessionId));
      for (const group of groups.values()) ended += await adminEnd.end(group, conditions, how, call);
      await sleep((performance.now() - workedSinceMs) * PAUSE_SHARE, undefined, { signal: call.signal });
      workedSinceMs = performance.now();
      return ended;
    },
  };
}

const TIME_LENGTH = 11;

/** Encodes when the run began, and its place, in base64url characters. */
function encodeResumePosition(beganMs: number, place: TenantPosition): string {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(beganMs);
  return bytes.toString("base64url") + encodeTenantPosition(place);
}

function decodeResumePosition(text: string) {
  const beganMs = Buffer.from(text.slice(0, TIME_LENGTH).padEnd(TIME_LENGTH, "A"), "base64url").readDoubleBE();
  if (!Number.isFinite(beganMs)) throw invalidField("resume_token", "is not a resume_token of this request");
  return { beganMs, place: decodeTenantPosition(text.slice(TIME_LENGTH)) };
}
