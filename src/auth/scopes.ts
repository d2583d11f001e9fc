// What a caller's credential must allow for each method, as the methods' comments in the contract say.

import type { MethodName } from "../service/handlers.ts";

/** What an API key may do. */
export const SCOPES = ["read", "write", "audit", "watch"] as const;

export type Scope = (typeof SCOPES)[number];

export const SCOPE_OF_METHOD = {
  createSession: "write",
  getSession: "read",
  validateSession: "read",
  updateSessionData: "write",
  deleteSession: "write",
  deleteUserSessions: "write",
  listUserSessions: "read",
  createHashSession: "write",
  getSessionField: "read",
  getSessionFields: "read",
  setSessionFields: "write",
  incrementSessionField: "write",
  createSecureSession: "write",
  validateToken: "read",
  rotateToken: "write",
  revokeToken: "write",
  createDeviceSession: "write",
  getDeviceSession: "read",
  listUserDevices: "read",
  revokeDevice: "write",
  regenerateSession: "write",
  listAuditEvents: "audit",
  explainSession: "audit",
  invalidateSession: "write",
  watchInvalidations: "watch",
  renewWatch: "watch",
  batchValidate: "read",
  validateStream: "read",
} as const satisfies Record<MethodName, Scope>;
