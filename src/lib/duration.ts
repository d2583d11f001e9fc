// Durations and instants of protobuf in milliseconds.

import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** Returns the whole milliseconds of a duration, rounded down, or undefined if it is unset. */
export function durationToMs(duration: Duration | undefined): number | undefined {
  return duration && wholeMs(duration);
}

export function wholeMs({ seconds, nanos }: Duration | Timestamp): number {
  return Number(seconds) * 1000 + Math.floor(nanos / 1e6);
}
