// The watch broadcaster: sends changes, resets and checkpoints to the open subscriptions of this instance.

import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import { WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import { encodePosition, type Position } from "../domain/position.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { Change, ChangeLog } from "../store/watch_change_log.ts";
import { ChangeLogReader, type ResetCause } from "./change_log_reader.ts";
import { createFilterGroups, matches, type FilterGroup, type WatchFilter } from "./filters.ts";
import { changeMessage, checkpointMessage, resetMessage, type WatchMessage } from "./messages.ts";
import { createSubscription, enqueueOrSend, type Subscription } from "./subscription.ts";

/** How long a cache may serve after a renewal. */
export const LEASE_MS = 3000;
/** Two checkpoints are less than 1 s apart although each waits for a sync of the change-log reader. */
const CHECKPOINT_INTERVAL_MS = 700;

const RESET_CAUSES: Readonly<Record<ResetCause, WatchResetCause>> = {
  trimmed: WatchResetCause.TRIMMED,
  epoch_changed: WatchResetCause.EPOCH_CHANGED,
};

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
  readonly #groups = createFilterGroups();
  readonly #subscriptions = new Map<string, { readonly subscription: Subscription; readonly group: FilterGroup }>();
  readonly #reader: ChangeLogReader;
  #checkpointTimer: NodeJS.Timeout | undefined;
  #runningCheckpoint: Promise<void> | undefined;

  constructor(changes: ChangeLog, keyRing: () => TokenKeyRing, log: Logger) {
    this.#keyRing = keyRing;
    this.#log = log;
    const onChange = (change: Change) => this.#broadcast(change);
    const onReset = (partition: number, cause: ResetCause) => this.#broadcastReset(partition, cause);
    this.#reader = new ChangeLogReader(changes, { onChange, onReset }, log);
  }

  async start(): Promise<void> {
    await this.#reader.start();
    this.#checkpointTimer = setInterval(() => this.#onCheckpointTimer(), CHECKPOINT_INTERVAL_MS);
  }

  /** Opens a subscription that receives every change after `start`. Rejects if the store does not respond. */
  async open(tenant: string, filter: WatchFilter): Promise<{ subscription: Subscription; start: Position }> {
    await this.#reader.syncToTail();
    const subscription = createSubscription(randomBytes(12).toString("base64url"));
    this.#subscriptions.set(subscription.id, { subscription, group: this.#groups.join(subscription, tenant, filter) });
    return { subscription, start: this.#reader.position() };
  }

  close(subscription: Subscription): void {
    const open = this.#subscriptions.get(subscription.id);
    if (open !== undefined) this.#groups.leave(subscription, open.group);
    this.#subscriptions.delete(subscription.id);
  }

  /**
   * Sends a checkpoint with this nonce after every change up to now. Returns false if the tenant has no such subscription. A
   * property and not a method, so that it can be passed as a function.
   */
  readonly renew = (tenant: string, watchId: string, nonce: string): boolean => {
    const open = this.#subscriptions.get(watchId);
    if (open?.group.tenant !== tenant) return false;
    const positionNow = () => this.#positionOf(tenant);
    this.#reader.syncToTail().then(
      () => enqueueOrSend(open.subscription, checkpointMessage(positionNow(), nonce), positionNow),
      // Without a checkpoint the cache keeps its present lease, and serves nothing when that ends.
      () => undefined,
    );
    return true;
  };

  /** The number of open subscriptions. */
  get size(): number {
    return this.#subscriptions.size;
  }

  async stop(): Promise<void> {
    clearInterval(this.#checkpointTimer);
    await this.#reader.close();
    await this.#runningCheckpoint;
  }

  #broadcast(change: Change): void {
    const message = changeMessage(change);
    if (message === undefined) return;
    for (const group of this.#groups.all()) if (matches(group.filter, change)) this.#sendToGroup(group, message);
  }

  #broadcastReset(partition: number, cause: ResetCause): void {
    this.#sendToAll((tenant) => resetMessage(RESET_CAUSES[cause], this.#positionOf(tenant), partition));
  }

  #onCheckpointTimer(): void {
    if (this.#runningCheckpoint !== undefined || this.#subscriptions.size === 0) return;
    this.#runningCheckpoint = this.#broadcastCheckpoint()
      .catch((error: unknown) => this.#log.debug({ err: error }, "store did not respond; no checkpoint sent"))
      .finally(() => (this.#runningCheckpoint = undefined));
  }

  async #broadcastCheckpoint(): Promise<void> {
    await this.#reader.syncToTail();
    this.#sendToAll((tenant) => checkpointMessage(this.#positionOf(tenant), ""));
  }

  /** Makes the message once for each tenant: a store that lost its data resets all partitions at once. */
  #sendToAll(messageOf: (tenant: string) => WatchMessage): void {
    const messages = new Map<string, WatchMessage>();
    for (const group of this.#groups.all()) {
      let message = messages.get(group.tenant);
      if (message === undefined) messages.set(group.tenant, (message = messageOf(group.tenant)));
      this.#sendToGroup(group, message);
    }
  }

  #sendToGroup({ tenant, subscriptions }: FilterGroup, message: WatchMessage): void {
    const positionNow = () => this.#positionOf(tenant);
    for (const subscription of subscriptions) enqueueOrSend(subscription, message, positionNow);
  }

  #positionOf(tenant: string): string {
    return encodePosition(this.#keyRing(), tenant, this.#reader.position());
  }
}
