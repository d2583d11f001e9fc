// The watch broadcaster: sends changes, resets and checkpoints to the open subscriptions of this instance.

import type { Logger } from "pino";
import type { WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import { encodePosition, type Position } from "../domain/position.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { Change, ChangeLog } from "../store/watch_change_log.ts";
import { ChangeLogReader } from "./change_log_reader.ts";
import { createFilterGroups, matches, partitionsIn, type FilterGroup, type WatchFilter } from "./filters.ts";
import { changeMessages, checkpointMessage, kindOf, MAX_PARTITION_RESETS, resetMessage } from "./messages.ts";
import { createSubscription, enqueueOrSend, type Subscription } from "./subscription.ts";

/** How long a cache may serve after a renewal. */
export const LEASE_MS = 3000;
/** Two checkpoints are less than 1 s apart although each waits for a sync of the change-log reader. */
const CHECKPOINT_INTERVAL_MS = 700;
/** A sync for a renewal also serves a checkpoint for all, unless the last one is more recent than this. */
const CHECKPOINT_SPACING_MS = 500;

/** Rejects if the store does not respond. */
export async function startWatchBroadcaster(
  changes: ChangeLog,
  keyRing: () => TokenKeyRing,
  log: Logger,
): Promise<WatchBroadcaster> {
  const broadcaster = new WatchBroadcaster(changes, keyRing, log);
  await broadcaster.start();
  return broadcaster;
}

export class WatchBroadcaster {
  readonly #keyRing: () => TokenKeyRing;
  readonly #log: Logger;
  readonly #reader: ChangeLogReader;
  readonly #groups = createFilterGroups();
  readonly #subscriptions = new Map<Subscription, FilterGroup>();
  // The encoded position of each tenant, made once for each revision of the reader's position.
  #positions: { readonly revision: number; readonly ring: TokenKeyRing; readonly texts: Map<string, string> };
  #onPartitionChanged: (partition: number) => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;
  #runningCheckpoint: Promise<void> | undefined;
  // When the last checkpoint for all was sent, on the clock of performance.now().
  #checkpointMs = -Infinity;

  constructor(changes: ChangeLog, keyRing: () => TokenKeyRing, log: Logger) {
    this.#keyRing = keyRing;
    this.#log = log;
    this.#positions = { revision: -1, ring: keyRing(), texts: new Map() };
    this.#reader = new ChangeLogReader(
      changes,
      {
        onChange: (change) => this.#broadcastChange(change),
        onReset: (partitions, cause) => this.#broadcastReset(partitions, cause),
      },
      log,
    );
  }

  async start(): Promise<void> {
    await this.#reader.start();
    this.#timer = setInterval(() => {
      if (this.#runningCheckpoint !== undefined || this.#subscriptions.size === 0) return;
      this.#runningCheckpoint = this.#broadcastCheckpoint()
        .catch((error: unknown) => this.#log.debug({ err: error }, "store did not respond; no checkpoint sent"))
        .finally(() => (this.#runningCheckpoint = undefined));
    }, CHECKPOINT_INTERVAL_MS);
  }

  /** Opens a subscription that receives every change after `start`. Rejects if the store does not respond. */
  async open(tenant: string, filter: WatchFilter): Promise<{ subscription: Subscription; start: Position }> {
    await this.#reader.syncToTail();
    const subscription = createSubscription();
    this.#subscriptions.set(subscription, this.#groups.join(subscription, tenant, filter));
    return { subscription, start: this.#reader.position() };
  }

  close(subscription: Subscription): void {
    const group = this.#subscriptions.get(subscription);
    if (group !== undefined) this.#groups.leave(subscription, group);
    this.#subscriptions.delete(subscription);
  }

  /**
   * Sends a checkpoint with this nonce after every change up to now. Sends none if the store does not respond: then the cache
   * keeps its present lease, and serves nothing when that ends.
   */
  async renew(subscription: Subscription, nonce: string): Promise<void> {
    try {
      await this.#broadcastCheckpoint();
    } catch {
      return;
    }
    const group = this.#subscriptions.get(subscription);
    if (group !== undefined) this.#sendCheckpoint([subscription], this.#positionOf(group.tenant), nonce);
  }

  /** Calls the listener for each partition that has a change, or whose changes may have been missed. */
  onPartitionChanged(listener: (partition: number) => void): void {
    this.#onPartitionChanged = listener;
  }

  /** Resolves when everything that had happened before this call has been sent. Rejects if the store does not respond. */
  sync(): Promise<void> {
    return this.#reader.syncToTail();
  }

  /** The number of open subscriptions. */
  get size(): number {
    return this.#subscriptions.size;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#reader.close();
    await this.#runningCheckpoint;
  }

  #broadcastChange(change: Change): void {
    this.#onPartitionChanged(change.partition);
    if (kindOf(change) === undefined) return;
    const messageFor = changeMessages(change, this.#keyRing);
    for (const { filter, subscriptions } of this.#groups.all()) {
      if (!matches(filter, change)) continue;
      const message = messageFor(filter.hasReferences)!;
      for (const subscription of subscriptions) enqueueOrSend(subscription, message);
    }
  }

  /** Sends each watcher the resets of the partitions that its filter can match, or one of everything if there are many. */
  #broadcastReset(partitions: readonly number[], cause: WatchResetCause): void {
    for (const partition of partitions) this.#onPartitionChanged(partition);
    for (const { tenant, filter, subscriptions } of this.#groups.all()) {
      const touched = partitionsIn(filter, partitions);
      const messages =
        touched.length > MAX_PARTITION_RESETS
          ? [resetMessage(cause, "")]
          : touched.map((partition) => resetMessage(cause, this.#positionOf(tenant), partition));
      for (const message of messages) for (const subscription of subscriptions) enqueueOrSend(subscription, message);
    }
  }

  async #broadcastCheckpoint(): Promise<void> {
    await this.#reader.syncToTail();
    if (performance.now() - this.#checkpointMs < CHECKPOINT_SPACING_MS) return;
    this.#checkpointMs = performance.now();
    for (const { tenant, subscriptions } of this.#groups.all())
      this.#sendCheckpoint(subscriptions, this.#positionOf(tenant), "");
  }

  /** The checkpoint has the position for the subscriptions that were not sent it yet. */
  #sendCheckpoint(subscriptions: Iterable<Subscription>, position: string, nonce: string): void {
    const moved = checkpointMessage(position, nonce);
    const unmoved = checkpointMessage("", nonce);
    for (const subscription of subscriptions) {
      const hasPosition = subscription.position === position;
      subscription.position = position;
      enqueueOrSend(subscription, hasPosition ? unmoved : moved);
    }
  }

  #positionOf(tenant: string): string {
    const ring = this.#keyRing();
    const { revision } = this.#reader;
    if (this.#positions.revision !== revision || this.#positions.ring !== ring) {
      this.#positions = { revision, ring, texts: new Map() };
    }
    const { texts } = this.#positions;
    let text = texts.get(tenant);
    if (text === undefined) texts.set(tenant, (text = encodePosition(ring, tenant, this.#reader.position())));
    return text;
  }
}
