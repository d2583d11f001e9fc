// The published entry `session-authority/client`.

export { createSessionClient } from "./client.ts";
export { SessionClientError } from "./errors.ts";
export { InvalidationKind } from "../../gen/session/v1/watch_pb.ts";
export { InvalidationReason, RevocationReason } from "../../gen/session/v1/session_pb.ts";
export type {
  ClientCredentials,
  ClientStatistics,
  Invalidation,
  Session,
  SessionClient,
  SessionClientOptions,
} from "./client.ts";
