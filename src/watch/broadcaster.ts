// The watch broadcaster: sends changes, resets and checkpoints to the open subscriptions of this instance.

import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import type { WatchResetCause } from "../../gen/session/v1/watch_pb.ts";
import { encodePosition, type Position } from "../domain/position.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { Change, ChangeLog } from "../store/watch_change_log.ts";
import { ChangeLogReader } from "./change_log_reader.ts";
import { createFilterGroups, matches, type FilterGroup, type WatchFilter } from "./filters.ts";
import { changeMessages, checkpointMessage, kindOf, resetMessage, type WatchMessage } from "./messages.ts";
import { createSubscription, enqueueOrSend, type Subscription } from "./subscription.ts";

/** How long a cache may serve after a renewal. */
export const LEASE_MS = 3000;
/** Two checkpoints are less than 1 s apart although each waits for a sync of the change-log reader. */
const CHECKPOINT_INTERVAL_MS = 700;

export type WatchBroadcaster = Awaited<ReturnType<typeof startWatchBroadcaster>>;

/** Rejects if the store does not respond. */
export async function startWatchBroadcaster(changes: ChangeLog, keyRing: () => TokenKeyRing, log: Logger) {
  const groups = createFilterGroups();
  const subscriptions = new Map<string, { readonly subscription: Subscription; readonly group: FilterGroup }>();
  const reader = new ChangeLogReader(changes, { onChange, onReset }, log);
  const positionOf = (tenant: string) => encodePosition(keyRing(), tenant, reader.position());
  await reader.start();

  function onChange(change: Change): void {
    if (kindOf(change) === undefined) return;
    const messageFor = changeMessages(change, keyRing);
    for (const group of groups.all()) {
      if (!matches(group.filter, change)) continue;
      sendToGroup(group, messageFor(group.filter.hasReferences)!, positionOf);
    }
  }

  function onReset(partition: number, cause: WatchResetCause): void {
    sendToAll(groups.all(), (tenant) => resetMessage(cause, positionOf(tenant), partition), positionOf);
  }

  async function broadcastCheckpoint(): Promise<void> {
    await reader.syncToTail();
    sendToAll(groups.all(), (tenant) => checkpointMessage(positionOf(tenant), ""), positionOf);
  }

  let runningCheckpoint: Promise<void> | undefined;
  const checkpointTimer = setInterval(() => {
    if (runningCheckpoint !== undefined || subscriptions.size === 0) return;
    runningCheckpoint = broadcastCheckpoint()
      .catch((error: unknown) => log.debug({ err: error }, "store did not respond; no checkpoint sent"))
      .finally(() => (runningCheckpoint = undefined));
  }, CHECKPOINT_INTERVAL_MS);

  return {
    /** Opens a subscription that receives every change after `start`. Rejects if the store does not respond. */
    async open(tenant: string, filter: WatchFilter): Promise<{ subscription: Subscription; start: Position }> {
      await reader.syncToTail();
      const subscription = createSubscription(randomBytes(12).toString("base64url"));
      subscriptions.set(subscription.id, { subscription, group: groups.join(subscription, tenant, filter) });
      return { subscription, start: reader.position() };
    },

    close(subscription: Subscription): void {
      const open = subscriptions.get(subscription.id);
      if (open !== undefined) groups.leave(subscription, open.group);
      subscriptions.delete(subscription.id);
    },

    /** Sends a checkpoint with this nonce after every change up to now. Returns false if the tenant has no such subscription. */
    renew(tenant: string, watchId: string, nonce: string): boolean {
      const open = subscriptions.get(watchId);
      if (open?.group.tenant !== tenant) return false;
      const positionNow = () => positionOf(tenant);
      reader.syncToTail().then(
        () => enqueueOrSend(open.subscription, checkpointMessage(positionNow(), nonce), positionNow),
        // Without a checkpoint the cache keeps its present lease, and serves nothing when that ends.
        () => undefined,
      );
      return true;
    },

    /** The number of open subscriptions. */
    get size(): number {
      return subscriptions.size;
    },

    async stop(): Promise<void> {
      clearInterval(checkpointTimer);
      await reader.close();
      await runningCheckpoint;
    },
  };
}

/** Makes the message once for each tenant: a store that lost its data resets all partitions at once. */
function sendToAll(
  groups: Iterable<FilterGroup>,
  messageOf: (tenant: string) => WatchMessage,
  positionOf: (tenant: string) => string,
): void {
  const messages = new Map<string, WatchMessage>();
  for (const group of groups) {
    let message = messages.get(group.tenant);
    if (message === undefined) messages.set(group.tenant, (message = messageOf(group.tenant)));
    sendToGroup(group, message, positionOf);
  }
}

function sendToGroup(
  { tenant, subscriptions }: FilterGroup,
  message: WatchMessage,
  positionOf: (tenant: string) => string,
): void {
  const positionNow = () => positionOf(tenant);
  for (const subscription of subscriptions) enqueueOrSend(subscription, message, positionNow);
}
