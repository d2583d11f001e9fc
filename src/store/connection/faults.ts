// Why a store cannot be used at this moment, and what follows from it: the one table for all topologies. docs/guarantees.md
// explains each row to operators.

import { StoreReplyError } from "./errors.ts";

/** What is wrong with the link to a node. All but `unreachable` and `replica` are the first words of error replies. */
export type StoreFault = keyof typeof FAULTS;

type FaultRow = {
  /** For /readyz and the log, after the name of the node. */
  readonly text: string;
  /** True if the connection is of no use any more: another is made, to the address that is then the right one. */
  readonly endsConnection: boolean;
};

const FAULTS = {
  unreachable: { text: "is out of reach", endsConnection: true },
  replica: { text: "is a replica, not a primary", endsConnection: true },
  READONLY: { text: "is a replica, not a primary", endsConnection: true },
  MASTERDOWN: { text: "is a replica that has lost its primary", endsConnection: true },
  LOADING: { text: "is loading its data", endsConnection: false },
  NOREPLICAS: { text: "refuses writes, because too few replicas follow it", endsConnection: false },
  MISCONF: { text: "refuses writes, because it cannot save its data", endsConnection: false },
  CLUSTERDOWN: { text: "refuses commands, because the cluster is down", endsConnection: false },
  BUSY: { text: "is busy with a script", endsConnection: false },
  NOPERM: { text: "refuses a command that the user has no right to", endsConnection: false },
} as const satisfies Readonly<Record<string, FaultRow>>;

export const STORE_FAULTS = Object.keys(FAULTS) as readonly StoreFault[];

export function describeFault(fault: StoreFault): FaultRow {
  return FAULTS[fault];
}

/** Returns the fault that an error reply shows; undefined if it only concerns its own command. */
export function faultOfReply(error: unknown): StoreFault | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = new StoreReplyError(error.message);
  return Object.hasOwn(FAULTS, code) ? (code as StoreFault) : undefined;
}
