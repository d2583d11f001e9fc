// The scope that each method requires, as the method's comment in the contract states; a test compares the two.

import type { Scope } from "../auth/api_key_file.ts";
import type { MethodName } from "../service/handlers.ts";

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
