// The published entry `session-authority/client`.

export { createSessionClient } from "./client.ts";
export type {
  ClientCredentials,
  ClientStatistics,
  Invalidation,
  Session,
  SessionClient,
  SessionClientOptions,
} from "./client.ts";
