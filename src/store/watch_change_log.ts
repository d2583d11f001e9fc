// The change logs of the store: their tails, their entries, and the channel on which new entries are published.

import type { Logger } from "pino";
import type { CallDeadline } from "../domain/call.ts";
import { PARTITION_COUNT } from "../domain/owner.ts";
import type { ChangeId, ChangePlace } from "../domain/position.ts";
import { partitionOfSessionId } from "../domain/session_id.ts";
import { storeUnavailable } from "./connection/errors.ts";
import { NodeConnection } from "./connection/node_connection.ts";
import { parseDoneBy, parseOpener, type DoneBy, type Opener, type StoreDependencies } from "./dependencies.ts";
import { CHANGES_CHANNEL, partitionKeys } from "./keys.ts";

/** An entry of a change log, as src/store/lua/includes/change_log.lua writes it. */
export type Change = DoneBy &
  ChangePlace & {
    readonly partition: number;
    /** The reason in lower case: `created`, `changed`, `deleted` … */
    readonly reason: string;
    readonly sessionId: string;
    readonly opener: Opener;
    readonly owner: string;
    readonly version: bigint;
    readonly atMs: number;
    /** What the caller gave for a `revoked` session, in lower case; otherwise empty. */
    readonly revocationReason: string;
  };

/**
 * The tails are read no more often than this, however many callers want to sync: many caches cost the store as much as a few. A
 * renewal waits for so long at most, which is little of a lease. In a cluster a read is 256 commands.
 */
const TAIL_SPACING_MS = 250;
const TAIL_SPACING_IN_CLUSTER_MS = 700;

const TAIL_KEYS = Array.from({ length: PARTITION_COUNT }, (_, partition) => partitionKeys(partition)[2]);

export type ChangeLog = ReturnType<typeof createChangeLog>;

/** `onSeen` is called with each change that is published or read. */
export function createChangeLog(
  { connection, scripts }: Omit<StoreDependencies, "settings">,
  log: Logger,
  onSeen: (change: Change) => void = () => undefined,
) {
  /**
   * Reads the end of each partition's log, in order: by one MGET on a single node, by pipelined GETs in a cluster. Only the
   * replies of primaries count.
   */
  async function readTails(call: CallDeadline): Promise<ChangeId[]> {
    const reading =
      connection.url.kind === "cluster"
        ? Promise.all(TAIL_KEYS.map((key) => connection.send(key, ["GET", key], call)))
        : (connection.send(TAIL_KEYS[0]!, ["MGET", ...TAIL_KEYS], call) as Promise<(Buffer | null)[]>);
    const [replies] = await Promise.all([reading, connection.prove(call)]);
    return Promise.all(
      replies.map(async (reply, partition) => parseChangeId(String(reply ?? (await beginLog(partition, call))))),
    );
  }

  /** Begins the epoch of a partition that has had no change. */
  async function beginLog(partition: number, call: CallDeadline) {
    return (await scripts.run("watch_begin_change_log", partitionKeys(partition), [], call)).values[0];
  }

  /** Reads at most `count` changes of a partition after `end`, oldest first. */
  async function readLog(partition: number, end: ChangeId, count: number, call: CallDeadline): Promise<Change[]> {
    const key = partitionKeys(partition)[1];
    const after = `(${end.epoch}-${end.seq}`;
    const reply = await connection.send(key, ["XRANGE", key, after, "+", "COUNT", String(count)], call);
    const changes = (reply as [Buffer, [Buffer, Buffer]][]).map(([, [, change]]) => parseChange(change));
    changes.forEach(onSeen);
    return changes;
  }

  /**
   * Subscribes to published changes, which pub/sub may lose without notice, and reconnects until it is closed. Calls
   * `onReadyChange` when the subscription is lost or made again.
   */
  function subscribe(onChange: (change: Change) => void, onReadyChange: (ready: boolean) => void) {
    return new NodeConnection({
      locate: () => {
        const address = connection.nodeAddress();
        if (address === undefined) throw storeUnavailable();
        return address;
      },
      access: connection.url,
      log,
      onReadyChange,
      prepare: (client) =>
        client.subscribe(
          CHANGES_CHANNEL,
          (message) => {
            const change = parseChange(message);
            onSeen(change);
            onChange(change);
          },
          true,
        ),
    });
  }

  const tailSpacingMs = connection.url.kind === "cluster" ? TAIL_SPACING_IN_CLUSTER_MS : TAIL_SPACING_MS;
  return { readTails, readLog, subscribe, tailSpacingMs };
}

function parseChange(bytes: Buffer): Change {
  const words = bytes.toString("latin1").split(" ");
  const [id = "", reason = "", sessionId = "", owner = "", version = "0", at = "0", by = "", opener = ""] = words;
  return {
    partition: partitionOfSessionId(sessionId)!,
    id: parseChangeId(id),
    reason,
    sessionId,
    opener: parseOpener(opener),
    owner,
    version: BigInt(version),
    atMs: Number(at),
    ...parseDoneBy(by),
    revocationReason: words[8] ?? "",
    previous: words[9] === undefined ? undefined : parseChangeId(words[9]),
  };
}

function parseChangeId(text: string): ChangeId {
  const [epoch, seq] = text.split("-").map(Number) as [number, number];
  return { epoch, seq };
}
