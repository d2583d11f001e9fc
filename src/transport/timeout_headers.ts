// The header in which a gRPC caller sends its deadline.

const GRPC_TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const MS_PER_UNIT: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** Parses a grpc-timeout header to milliseconds. Returns Infinity if it is absent and undefined if it is malformed. */
export function parseGrpcTimeout(header: string | string[] | null | undefined): number | undefined {
  if (header === undefined || header === null) return Infinity;
  const [, value, unit] = GRPC_TIMEOUT.exec(String(header)) ?? [];
  return value === undefined ? undefined : Number(value) * MS_PER_UNIT[unit!]!;
}
