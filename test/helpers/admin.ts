// An instance with API keys of several tenants, and of an operator for all of them.

import { hash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type {
  EndSessionsRequestSchema,
  EndSessionsResponseSchema,
  ListedSession,
  ListSessionsRequestSchema,
} from "../../gen/session/v1/admin_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";
import { SCOPES } from "../../src/domain/scope.ts";
import { startAuthorities, type AuthorityOptions } from "./authority.ts";
import type { AuthorityClient, CallOptions } from "./grpc_client.ts";

export type Admin = Awaited<ReturnType<typeof startAdmin>>;

type End = MessageInitShape<typeof EndSessionsRequestSchema>;
type Progress = MessageShape<typeof EndSessionsResponseSchema>;

const keyOf = (name: string) => `key-${hash("sha256", name)}`;

/** Starts an instance whose keys have the names of `tenants`. */
export async function startAdmin(tenants: readonly string[], options: AuthorityOptions = {}) {
  const directory = mkdtempSync(join(tmpdir(), "sa-admin-"));
  const entry = (name: string, tenant: string, scopes: readonly string[]) => ({
    ...{ name, tenant, scopes, sha256: hash("sha256", keyOf(name)) },
  });
  const keys = [
    ...tenants.map((tenant) => entry(tenant, tenant, SCOPES)),
    entry("operator", "*", ["admin"]),
    entry("no admin", "acme", ["read", "write"]),
  ];
  const file = join(directory, "keys.json");
  writeFileSync(file, JSON.stringify({ keys }));
  const authorities = await startAuthorities({ ...options, env: { SA_API_KEYS_FILE: file, ...options.env } });
  rmSync(directory, { recursive: true });
  const baseUrl = `http://${authorities.servers[0]!.addresses.grpc!}`;
  const streams = createClient(SessionService, createGrpcTransport({ baseUrl }));

  function clientOf(name: string): AuthorityClient {
    const metadata = { authorization: `Bearer ${keyOf(name)}` };
    return new Proxy(authorities.clients[0]!, {
      get: (client, method: keyof AuthorityClient) => (request: never, call?: CallOptions) =>
        (client[method] as (...args: unknown[]) => unknown)(request, { metadata, ...call }),
    });
  }

  async function* progressOf(name: string, request: End, signal?: AbortSignal): AsyncGenerator<Progress> {
    const headers = { authorization: `Bearer ${keyOf(name)}` };
    yield* streams.endSessions(request, { headers, ...(signal && { signal }) });
  }

  async function end(name: string, request: End): Promise<Progress> {
    let last: Progress | undefined;
    for await (const progress of progressOf(name, request)) last = progress;
    return last!;
  }

  const operator = clientOf("operator");
  return {
    authorities,
    operator,
    withoutScope: clientOf("no admin"),

    /** Runs an EndSessions of the operator to its end. */
    end: (request: End) => end("operator", request),

    /** Lists all pages, with the operator's key. */
    async listAll(request: MessageInitShape<typeof ListSessionsRequestSchema>): Promise<ListedSession[]> {
      const sessions: ListedSession[] = [];
      for (let pageToken = ""; ;) {
        const page = await operator.listSessions({ ...request, pageToken });
        sessions.push(...page.sessions);
        pageToken = page.nextPageToken;
        if (pageToken === "") return sessions;
      }
    },

    tenant(name: string) {
      const client = clientOf(name);
      return {
        name,
        client,
        progressOf: (request: End, signal?: AbortSignal) => progressOf(name, request, signal),
        end: (request: End) => end(name, request),
        count: async () => Number((await client.countSessions({})).tenants[0]!.sessionCount),
      };
    },
  };
}
