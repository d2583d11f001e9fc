// The headers in which a caller sends its deadline. The timers of both protocol libraries fire at once if the deadline is
// more than 24.8 days away, so longer ones are clamped before the libraries read them.

import { MAX_TIMEOUT_MS } from "../lib/timeout.ts";

const GRPC_TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const MS_PER_UNIT: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
const CONNECT_TIMEOUT = /^\d{1,10}$/;

/** The longest grpc-timeout that fits into a timer. */
export const MAX_GRPC_TIMEOUT = `${Math.floor(MAX_TIMEOUT_MS / 1000)}S`;

/** Parses a grpc-timeout header to milliseconds. Returns Infinity if it is absent and undefined if it is malformed. */
export function parseGrpcTimeout(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return Infinity;
  const [, value, unit] = GRPC_TIMEOUT.exec(String(header)) ?? [];
  return value === undefined ? undefined : Number(value) * MS_PER_UNIT[unit!]!;
}

/** Clamps the timeout headers of a call to MAX_TIMEOUT_MS. Malformed ones are left for the protocol library to refuse. */
export function clampTimeoutHeaders(headers: Headers): void {
  const grpcTimeout = headers.get("grpc-timeout");
  if (grpcTimeout !== null && parseGrpcTimeout(grpcTimeout)! > MAX_TIMEOUT_MS) {
    headers.set("grpc-timeout", MAX_GRPC_TIMEOUT);
  }
  const connectTimeout = headers.get("connect-timeout-ms");
  if (connectTimeout !== null && CONNECT_TIMEOUT.test(connectTimeout) && Number(connectTimeout) > MAX_TIMEOUT_MS) {
    headers.set("connect-timeout-ms", String(MAX_TIMEOUT_MS));
  }
}
