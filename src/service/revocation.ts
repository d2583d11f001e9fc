// The reason that a caller gives for ending sessions.

import { RevocationReason, RevocationReasonSchema } from "../../gen/session/v1/session_pb.ts";

/** Returns the word of the store for what a caller gives as its reason; empty for none. */
export function revocationWord(reason: RevocationReason): string {
  if (reason === RevocationReason.UNSPECIFIED) return "";
  return RevocationReasonSchema.value[reason]!.localName.toLowerCase();
}
