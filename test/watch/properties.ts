// The properties of a watch. Each checks a recorded history and returns the violations that it finds.

import type { ChangeId, Position } from "../../src/domain/position.ts";
import { partitionOfSessionId } from "../../src/domain/session_id.ts";
import { positionOf, type StreamRecord } from "../helpers/watch_client.ts";
import { matches, reasonOf, writeKey, type History, type KnownChange, type WatcherRecord } from "./history.ts";

export type Property = (history: History) => string[];

/** A stream with decoded positions and an index of its invalidations. */
type IndexedStream = {
  readonly stream: StreamRecord;
  readonly start: Position | undefined;
  /** The index of the first event with this change_id, and of the first with this writeKey. */
  readonly indexById: Map<string, number>;
  readonly indexByKey: Map<string, number>;
  readonly checkpoints: { index: number; nonce: string; position: Position }[];
  readonly resets: { index: number; atMs: number; partition: number | undefined; position: Position }[];
};

const indexed = new WeakMap<StreamRecord, IndexedStream>();

function indexStream(history: History, stream: StreamRecord): IndexedStream {
  const known = indexed.get(stream);
  if (known !== undefined) return known;
  const result: IndexedStream = {
    stream,
    start: undefined,
    indexById: new Map(),
    indexByKey: new Map(),
    checkpoints: [],
    resets: [],
  };
  const decode = (position: string | undefined) => (position === undefined ? undefined : history.decode(position));
  // A checkpoint without a position has the last one.
  let last: Position | undefined;
  for (const [index, { atMs, event }] of stream.events.entries()) {
    const decoded = decode(positionOf(event));
    if (event.case === "opened") (result as { start: Position }).start = decoded!;
    if (event.case !== "reset") last = decoded ?? last;
    if (event.case === "checkpoint") result.checkpoints.push({ index, nonce: event.value.nonce, position: last! });
    if (event.case === "reset") {
      // A reset of everything has that of the next checkpoint.
      const next = stream.events.slice(index).map((each) => positionOf(each.event));
      const position = decoded ?? decode(next.find((each) => each !== undefined)) ?? last!;
      result.resets.push({ index, atMs, partition: event.value.partition, position });
    }
    if (event.case !== "invalidation") continue;
    const key = writeKey({ ...event.value, reason: reasonOf(event.value) });
    if (!result.indexById.has(event.value.changeId)) result.indexById.set(event.value.changeId, index);
    if (!result.indexByKey.has(key)) result.indexByKey.set(key, index);
  }
  indexed.set(stream, result);
  return result;
}

/** The changes of a user arrive in the order of their log. */
export const ordered: Property = (history) =>
  eachStream(history, (where, { stream }) => {
    const last = new Map<string, { epoch: number; seq: number }>();
    return invalidationsOf(stream).flatMap(({ userId, changeId }) => {
      const change = logEndOf(changeId);
      const before = last.get(userId);
      last.set(userId, change);
      return before !== undefined && isAfter(before, change) ? [`${where}: ${changeId} came late`] : [];
    });
  });

/** A stream sends each change once, and a change_id names the same change on every stream. */
export const unique: Property = (history) => {
  const meanings = new Map<string, string>();
  return eachStream(history, (where, { stream }) => {
    const seen = new Set<string>();
    return invalidationsOf(stream).flatMap((change) => {
      const { changeId } = change;
      const meaning = writeKey(change);
      const again = seen.has(changeId) ? [`${where}: ${changeId} came twice`] : [];
      const other = meanings.get(changeId) ?? meaning;
      seen.add(changeId);
      meanings.set(changeId, meaning);
      return other === meaning ? again : [...again, `${where}: ${changeId} is ${meaning} and ${other}`];
    });
  });
};

/** A change that was acknowledged before a renewal was sent comes before the renewal's checkpoint, or a reset covers it. */
export const reliable: Property = (history) => {
  const idOfWrite = new Map([...history.known.values()].map((change) => [writeKey(change), change]));
  return history.watchers.flatMap((watcher) => {
    const streams = watcher.streams
      .map((stream) => indexStream(history, stream))
      .filter(({ start }) => start !== undefined);
    const openedMs = streams[0]?.stream.events[0]!.atMs ?? Infinity;
    const expected = history.writes.filter((write) => write.startMs > openedMs && matches(watcher.filter, write));
    return expected.flatMap((write) => {
      const key = writeKey(write);
      const known = idOfWrite.get(key);
      for (const [n, { stream, indexByKey, checkpoints, resets }] of streams.entries()) {
        const claimed = checkpoints.find(({ nonce }) => stream.renewals.get(nonce)! > write.ackedMs)?.index ?? Infinity;
        if ((indexByKey.get(key) ?? Infinity) < claimed) return [];
        const partition = partitionOfSessionId(write.sessionId)!;
        const covered = resets.some(
          (reset) =>
            reset.index < claimed &&
            (reset.partition ?? partition) === partition &&
            (known === undefined ? reset.atMs > write.startMs : !isAfter(known, reset.position[partition]!)),
        );
        if (covered) return [];
        if (claimed < Infinity) return [`${watcher.name}: stream ${n}, event ${claimed}: ${key} was never sent`];
      }
      return [];
    });
  });
};

/** After a resumption no change between is missing, or a reset covers it. */
export const resumable: Property = (history) =>
  eachStream(history, (where, each, watcher) => {
    const { resumedFrom, events } = each.stream;
    const [first] = events;
    if (resumedFrom === "" || first === undefined) return [];
    const other = first.event.case !== "opened" || first.event.value.position !== resumedFrom;
    const missing = missingChanges(history, each, watcher).filter(
      ({ checkpoint }) => checkpoint === each.checkpoints[0],
    );
    return [
      ...(other ? [`${where}: opened elsewhere than where it was to resume`] : []),
      ...missing.map(({ change }) => `${where}: resumed without ${change.id}`),
    ];
  });

/** The opening comes first; a checkpoint is not behind the previous one, and covers no change that was not sent. */
export const checkpointTrue: Property = (history) =>
  eachStream(history, (where, each, watcher) => {
    const faults: string[] = [];
    for (const [index, { event }] of each.stream.events.entries()) {
      if ((event.case === "opened") !== (index === 0)) faults.push(`${where}: event ${index} is ${event.case}`);
    }
    for (const [n, { index, position }] of each.checkpoints.entries()) {
      const before = each.checkpoints[n - 1];
      const from = before?.position ?? each.start!;
      const back = from.findIndex((end, partition) => isAfter(end, position[partition]!));
      const isReset = each.resets.some((reset) => reset.index > (before?.index ?? 0) && reset.index < index);
      if (back !== -1 && !isReset) faults.push(`${where}: event ${index} goes back in partition ${back}`);
    }
    const claims = missingChanges(history, each, watcher).map(
      ({ change, checkpoint }) => `${where}: event ${checkpoint.index} claims ${change.id}, which was not sent`,
    );
    return isFiltered(watcher) ? faults : [...faults, ...claims];
  });

/** A filtered watcher is sent the changes that match, all of them, and nothing else. */
export const filterExact: Property = (history) =>
  eachStream(history, (where, each, watcher) => [
    ...invalidationsOf(each.stream).flatMap((change) =>
      matches(watcher.filter, change) ? [] : [`${where}: ${change.changeId} does not match its filter`],
    ),
    ...(isFiltered(watcher) ? missingChanges(history, each, watcher) : []).map(
      ({ change }) => `${where}: ${change.id} matches its filter and was not sent`,
    ),
  ]);

export const PROPERTIES: Readonly<Record<string, Property>> = {
  Ordered: ordered,
  Unique: unique,
  Reliable: reliable,
  Resumable: resumable,
  "Checkpoint-true": checkpointTrue,
  "Filter-exact": filterExact,
};

/** Returns all violations in a history, each with the name of its property. */
export function violationsOf(history: History): string[] {
  return Object.entries(PROPERTIES).flatMap(([name, property]) =>
    property(history).map((fault) => `${name}: ${fault}`),
  );
}

/** Returns the changes between a stream's start and a checkpoint that it neither sent before nor covered by a reset. */
function missingChanges(
  history: History,
  { start, indexById, checkpoints, resets }: IndexedStream,
  { filter }: WatcherRecord,
) {
  return [...history.known.values()].flatMap((change) => {
    if (start === undefined || !matches(filter, change)) return [];
    const { partition } = change;
    if (!isAfter(change, start[partition]!)) return [];
    const checkpoint = checkpoints.find(({ position }) => !isAfter(change, position[partition]!));
    if (checkpoint === undefined || (indexById.get(change.id) ?? Infinity) < checkpoint.index) return [];
    const covered = resets.some(
      (reset) =>
        reset.index < checkpoint.index &&
        (reset.partition ?? partition) === partition &&
        !isAfter(change, reset.position[partition]!),
    );
    return covered ? [] : [{ change, checkpoint }];
  });
}

type InvalidationRecord = Pick<KnownChange, "userId" | "sessionId" | "reason" | "version"> & {
  readonly changeId: string;
};

function invalidationsOf(stream: StreamRecord): InvalidationRecord[] {
  return stream.events.flatMap(({ event }) =>
    event.case === "invalidation" ? [{ ...event.value, reason: reasonOf(event.value) }] : [],
  );
}

function eachStream(
  history: History,
  check: (where: string, each: IndexedStream, watcher: WatcherRecord) => string[],
): string[] {
  return history.watchers.flatMap((watcher) =>
    watcher.streams.flatMap((stream, n) => {
      const each = indexStream(history, stream);
      return each.start === undefined ? [] : check(`${watcher.name}: stream ${n}`, each, watcher);
    }),
  );
}

function isFiltered({ filter }: WatcherRecord): boolean {
  return filter.userIds.length + filter.sessionIds.length + filter.reasons.length > 0;
}

function logEndOf(changeId: string): ChangeId {
  const [, epoch, seq] = changeId.split("-").map(Number) as [number, number, number];
  return { epoch, seq };
}

/** Not imported from src, so that the check does not depend on what it checks. */
function isAfter(a: ChangeId, b: ChangeId): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq);
}
