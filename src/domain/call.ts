// What every layer below the wire knows of the call it works for.

/** Who calls. Both come from the credential, never from a request. */
export type Principal = {
  /** The isolation domain; `default` when callers are not authenticated. */
  readonly tenant: string;
  /** The name of the API key, for the audit trail; `anonymous` when callers are not authenticated. */
  readonly name: string;
};

/** How long a call may take. */
export type CallDeadline = {
  /** The instant, on the clock of performance.now(), by which the caller must have its answer. */
  readonly deadlineMs: number;
  /** Aborted when the caller is gone or the deadline has passed. */
  readonly signal: AbortSignal;
};

export type CallContext = CallDeadline & { readonly principal: Principal };
