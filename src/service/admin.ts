// Administration: ListSessions, CountSessions, ListTopUsers, EndSessions.

import type { ListSessionsRequest } from "../../gen/session/v1/admin_pb.ts";
import { ListOrder } from "../../gen/session/v1/session_pb.ts";
import type { CallContext } from "../domain/call.ts";
import { tenantOfOwner, userIdOfOwner } from "../domain/owner.ts";
import { decodePageToken, encodePageToken } from "../domain/page_token.ts";
import type { SessionRecord } from "../store/session_record.ts";
import { endSessions } from "./admin_end.ts";
import type { ServiceDependencies } from "./dependencies.ts";
import type { SessionServiceImpl } from "./handlers.ts";
import { filterScope, sessionMatcher } from "./session_filter.ts";
import { sessionMessage } from "./session_message.ts";
import { DEFAULT_PAGE_SIZE } from "./session_page.ts";
import { decodeTenantPosition, encodeTenantPosition, ownTenant, placesFrom, tenantsOf } from "./tenant_scope.ts";

// What one ListSessions does at most, so that a rare filter ends with a short page and not with the deadline.
const MOST_EXAMINED = 10_000;
const PAGE_TIME_MS = 1000;
const PAGE_BYTES = 1024 * 1024;

export function createAdminService(deps: ServiceDependencies) {
  const { adminSessions, adminUsers } = deps;
  return {
    async listSessions(request, call) {
      return listSessions(deps, request, call);
    },

    async countSessions(request, call) {
      const tenants = await tenantsOf(request.tenant, adminSessions, call);
      const counts = await Promise.all(tenants.map((tenant) => adminSessions.count(tenant, call)));
      return { tenants: tenants.map((tenant, i) => ({ tenant, sessionCount: BigInt(counts[i]!) })) };
    },

    async listTopUsers(request, call) {
      const limit = request.pageSize || DEFAULT_PAGE_SIZE;
      const users = await adminUsers.top(ownTenant(request.tenant, call), limit, call);
      return {
        users: users.map(({ owner, count }) => ({
          tenant: tenantOfOwner(owner),
          userId: userIdOfOwner(owner),
          sessionCount: BigInt(count),
        })),
      };
    },

    async *endSessions(request, call) {
      yield* endSessions(deps, request, call);
    },
  } satisfies SessionServiceImpl;
}

async function listSessions(deps: ServiceDependencies, request: ListSessionsRequest, call: CallContext) {
  const { filter, tenant: requested } = request;
  const matches = sessionMatcher(filter);
  const order = request.order === ListOrder.NEWEST_FIRST ? "newest" : "oldest";
  const userIds = filter && filter.userIds.length > 0 ? filter.userIds : undefined;
  const tenants = await tenantsOf(requested, deps.adminSessions, call);
  const scope = ["sessions", order, ownTenant(requested, call) ?? "*", filterScope(filter)].join(" ");
  const start = decodeTenantPosition(decodePageToken(scope, request.pageToken));

  const page = createPage(request.pageSize || DEFAULT_PAGE_SIZE);
  let isOrdered = ownTenant(requested, call) !== undefined;
  for (const { tenant, position: from } of placesFrom(tenants, start)) {
    const list = await deps.adminSessions.list(tenant, { order, userIds }, from, call);
    isOrdered &&= list.ordered;
    for await (const { stored, position } of list.sessions) {
      page.examine(stored.record, matches(stored.record), request.includeData);
      if (!page.isFull()) continue;
      const nextPageToken = encodePageToken(scope, encodeTenantPosition({ tenant, position }));
      return { sessions: page.records.map(listed), nextPageToken, ordered: isOrdered };
    }
  }
  return { sessions: page.records.map(listed), nextPageToken: "", ordered: isOrdered };

  function listed(record: SessionRecord) {
    const session = sessionMessage({ record });
    if (!request.includeData) delete session.data;
    const tenant = tenantOfOwner(record.owner);
    const opener = record.isOpenedByToken ? "token" : "id";
    session.sessionId = deps.references.visibleId(record.sessionId, opener, {
      principal: { ...call.principal, tenant },
    });
    return { tenant, session };
  }
}

/** Collects the sessions of a page until it is full: of sessions, of bytes, or because enough work is done. */
function createPage(pageSize: number) {
  const startedMs = performance.now();
  const records: SessionRecord[] = [];
  let examined = 0;
  let bytes = 0;
  return {
    records,
    examine(record: SessionRecord, isMatch: boolean, withData: boolean): void {
      examined++;
      if (!isMatch) return;
      records.push(record);
      bytes += record.contractLength - (withData ? 0 : record.data.length);
    },
    isFull: () =>
      records.length >= pageSize ||
      bytes >= PAGE_BYTES ||
      examined >= MOST_EXAMINED ||
      performance.now() >= startedMs + PAGE_TIME_MS,
  };
}
