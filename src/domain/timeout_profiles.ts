// The timeouts that NIST SP 800-63B-4 (sections 2.1.3, 2.2.3 and 2.3.3) recommends for each authenticator assurance level. It
// names no idle timeout for AAL1.

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export const TIMEOUT_PROFILES = {
  aal1: { idleTimeoutMs: 30 * DAY_MS, absoluteTimeoutMs: 30 * DAY_MS },
  aal2: { idleTimeoutMs: HOUR_MS, absoluteTimeoutMs: DAY_MS },
  aal3: { idleTimeoutMs: HOUR_MS / 4, absoluteTimeoutMs: 12 * HOUR_MS },
} as const;
