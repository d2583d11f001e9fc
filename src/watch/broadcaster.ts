// The hub: this instance's watchers, and what the relay tells them.

import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Logger } from "pino";
import {
  WatchInvalidationsResponseSchema,
  WatchResetCause,
  type WatchInvalidationsResponse,
} from "../../gen/session/v1/watch_pb.ts";
import { userIdOfOwner } from "../domain/owner.ts";
import { encodePosition, type Position } from "../domain/position.ts";
import type { TokenKeyRing } from "../domain/token.ts";
import type { Change, ChangeLog } from "../store/watch_change_log.ts";
import { createFilterGroups, reasonOf, matches, type WatchFilter, type FilterGroup } from "./filters.ts";
import { startChangeLogReader, type ChangeLogReader, type ResetCause } from "./change_log_reader.ts";
import {
  createSubscription,
  enqueueOrSend,
  resetMessage,
  type Subscription,
  type WatchMessage,
} from "./subscription.ts";

/** How long a cache may serve after a renewal. */
export const LEASE_MS = 3000;
// Often enough that a checkpoint is late by a proof and still within a second of the one before.
const CHECKPOINT_INTERVAL_MS = 700;
// What a message takes besides its texts, roughly.
const MESSAGE_OVERHEAD_BYTES = 64;

export type WatchBroadcaster = {
  /** Opens a watcher that hears every change after `start`. Rejects while the store cannot be asked. */
  open(tenant: string, filter: WatchFilter): Promise<{ watcher: Subscription; start: Position }>;
  close(watcher: Subscription): void;
  /** Sends a checkpoint with this nonce once everything up to now has been told; false when there is no such watcher. */
  renew(tenant: string, watchId: string, nonce: string): boolean;
  /** How many watchers are open. */
  readonly size: number;
  stop(): Promise<void>;
};

const RESET_CAUSES: Readonly<Record<ResetCause, WatchResetCause>> = {
  trimmed: WatchResetCause.TRIMMED,
  epoch_changed: WatchResetCause.EPOCH_CHANGED,
};

export async function startWatchBroadcaster(
  changes: ChangeLog,
  keyRing: () => TokenKeyRing,
  log: Logger,
): Promise<WatchBroadcaster> {
  const watchers = new Map<string, { readonly watcher: Subscription; readonly group: FilterGroup }>();
  const groups = createFilterGroups();
  const relay: ChangeLogReader = await startChangeLogReader(changes, { onChange: tell, onReset: tellReset }, log);

  const positionOf = (tenant: string) => encodePosition(keyRing(), tenant, relay.position());

  function tell(change: Change): void {
    const message = changeMessage(change);
    if (message === undefined) return;
    for (const group of groups.all()) if (matches(group.filter, change)) pushToGroup(group, message);
  }

  function tellReset(partition: number, cause: ResetCause): void {
    pushToAll((tenant) => sized(resetMessage(RESET_CAUSES[cause], positionOf(tenant), partition)));
  }

  /** To every watcher, made once for each tenant: a store that lost everything resets all partitions at once. */
  function pushToAll(messageOf: (tenant: string) => WatchMessage): void {
    const ofTenant = new Map<string, WatchMessage>();
    for (const group of groups.all()) {
      let message = ofTenant.get(group.tenant);
      if (message === undefined) ofTenant.set(group.tenant, (message = messageOf(group.tenant)));
      pushToGroup(group, message);
    }
  }

  function pushToGroup({ tenant, watchers }: FilterGroup, message: WatchMessage): void {
    const positionNow = () => positionOf(tenant);
    for (const watcher of watchers) enqueueOrSend(watcher, message, positionNow);
  }

  async function checkpointAll(): Promise<void> {
    await relay.syncToTail();
    pushToAll((tenant) => checkpoint(positionOf(tenant), ""));
  }

  let underway: Promise<void> | undefined;
  const timer = setInterval(() => {
    if (underway !== undefined || watchers.size === 0) return;
    underway = checkpointAll()
      // No checkpoint: caches run out of lease, which is what they are to do.
      .catch((error: unknown) => log.debug({ err: error }, "no checkpoint: the store did not answer"))
      .finally(() => (underway = undefined));
  }, CHECKPOINT_INTERVAL_MS);

  return {
    async open(tenant, filter) {
      await relay.syncToTail();
      const watcher = createSubscription(randomBytes(12).toString("base64url"));
      watchers.set(watcher.id, { watcher, group: groups.join(watcher, tenant, filter) });
      return { watcher, start: relay.position() };
    },
    close(watcher) {
      const open = watchers.get(watcher.id);
      if (open !== undefined) groups.leave(watcher, open.group);
      watchers.delete(watcher.id);
    },
    renew(tenant, watchId, nonce) {
      const open = watchers.get(watchId);
      if (open?.group.tenant !== tenant) return false;
      relay.syncToTail().then(
        () => enqueueOrSend(open.watcher, checkpoint(positionOf(tenant), nonce), () => positionOf(tenant)),
        () => undefined,
      );
      return true;
    },
    get size() {
      return watchers.size;
    },
    async stop() {
      clearInterval(timer);
      await relay.close();
      await underway;
    },
  };
}

/** The message of a change; undefined for one that invalidates nothing. */
export function changeMessage(change: Change): WatchMessage | undefined {
  const reason = reasonOf(change);
  if (reason === undefined) return undefined;
  const { partition, end, sessionId, owner, version, atMs, actor } = change;
  const changeId = `${partition}-${end.epoch}-${end.seq}`;
  const at = timestampFromMs(atMs);
  const value = { sessionId, userId: userIdOfOwner(owner), reason, version, at, actor, changeId };
  return sized(create(WatchInvalidationsResponseSchema, { event: { case: "invalidation", value } }));
}

function checkpoint(position: string, nonce: string): WatchMessage {
  return sized(create(WatchInvalidationsResponseSchema, { event: { case: "checkpoint", value: { position, nonce } } }));
}

function sized(message: WatchInvalidationsResponse): WatchMessage {
  const { value = {} } = message.event;
  const texts = Object.values(value).filter((member) => typeof member === "string");
  return { message, bytes: texts.reduce((sum, text) => sum + text.length, MESSAGE_OVERHEAD_BYTES) };
}
