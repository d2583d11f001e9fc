// Reads that slide the idle timeout. A slide never spoils the read: if the store takes no writes, the session is only read.

import { isOnlyWriteRefused } from "./connection/errors.ts";
import type { StoreSettings } from "./dependencies.ts";
import type { ScriptFlags, ScriptReply } from "./scripts.ts";

/** The ARGV touch_interval_ms of a call that is no access. */
const NO_TOUCH = "-2";
/** The ARGV touch_interval_ms for the session's default. */
const DEFAULT_INTERVAL = "-1";

/**
 * Runs a script that reads, and slides the idle timeout as its ARGV touch_interval_ms says: not at all unless `touch` is true.
 * `run` runs it with that argument and these flags.
 */
export async function runAccess(
  { touchIntervalMs }: StoreSettings,
  touch: boolean,
  run: (touchIntervalMs: string, flags: ScriptFlags) => Promise<ScriptReply<never>>,
): Promise<ScriptReply<never>> {
  if (touch) {
    try {
      return await run(String(touchIntervalMs ?? DEFAULT_INTERVAL), "declared");
    } catch (error) {
      if (!isOnlyWriteRefused(error)) throw error;
    }
  }
  return run(NO_TOUCH, "no-writes");
}
