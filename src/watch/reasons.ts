// The reasons of the store, which are words in lower case, as values of the contract's enums.

import { InvalidationReason, RevocationReason } from "../../gen/session/v1/session_pb.ts";

/** A reason that this version does not know, because a newer instance has written it, is UNSPECIFIED. */
export function invalidationReasonOf(word: string): InvalidationReason {
  return InvalidationReason[word.toUpperCase() as keyof typeof InvalidationReason] ?? InvalidationReason.UNSPECIFIED;
}

/** No word is UNSPECIFIED, as is one that this version does not know. */
export function revocationReasonOf(word: string): RevocationReason {
  return RevocationReason[word.toUpperCase() as keyof typeof RevocationReason] ?? RevocationReason.UNSPECIFIED;
}
