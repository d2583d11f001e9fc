// A watcher that follows through faults: when its stream breaks, it resumes from its last position on any live instance.

import { setTimeout as sleep } from "node:timers/promises";
import { InvalidationReason } from "../../gen/session/v1/session_pb.ts";
import { InvalidationKind } from "../../gen/session/v1/watch_pb.ts";
import { createWatchClient, type WatchClient, type WatchRequest, type WatchStream } from "../helpers/watch_client.ts";
import type { Filter, WatcherRecord } from "./history.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

export type Follower = {
  readonly record: WatcherRecord;
  stream(): WatchStream;
  /** Cancels the stream, and does not resume before `reconnect`. */
  disconnect(): void;
  reconnect(): void;
  /** Resolves when a checkpoint returns the nonce of a renewal, on this stream or on a later one. */
  settle(timeoutMs: number): Promise<void>;
  stop(): Promise<void>;
};

const NO_FILTER: Filter = { userIds: [], sessionIds: [], reasons: [] };

/** Ends are selected by their reason, changes by their kind. */
function requestOf({ userIds, sessionIds, reasons }: Filter): WatchRequest {
  const ofEnds = reasons.filter((reason) => reason !== "changed");
  const { ENDED, CHANGED } = InvalidationKind;
  return {
    userIds: [...userIds],
    sessionIds: [...sessionIds],
    reasons: ofEnds.map((reason) => InvalidationReason[reason.toUpperCase() as keyof typeof InvalidationReason]),
    ...(ofEnds.length < reasons.length && { kinds: [ENDED, CHANGED] }),
  };
}

/** Resolves when the stream to `instance` has opened. */
export async function follow(
  world: World,
  random: Random,
  name: string,
  instance: number,
  filter: Partial<Filter> = {},
): Promise<Follower> {
  const record: WatcherRecord = { name, filter: { ...NO_FILTER, ...filter }, streams: [] };
  let client: WatchClient;
  let stream: WatchStream;
  let stopped = false;
  let isHeld = false;
  let position = "";

  function open(instance: number): void {
    client = createWatchClient(world.instances[instance]!.front.address);
    stream = client.watch({ ...requestOf(record.filter), resumePosition: position });
    record.streams.push(stream.record);
  }

  async function resumeUntilStopped(): Promise<void> {
    while (!stopped) {
      await stream.ended;
      position = stream.lastPosition();
      client.close();
      while (isHeld && !stopped) await sleep(5);
      if (stopped) return;
      await sleep(10);
      const alive = world.instances.flatMap((each, i) => (each.alive ? [i] : []));
      open(random.pick(alive));
    }
  }

  open(instance);
  await stream!.opened();
  const resuming = resumeUntilStopped();

  return {
    record,
    stream: () => stream,
    disconnect() {
      isHeld = true;
      stream.cancel();
    },
    reconnect: () => void (isHeld = false),
    async settle(timeoutMs) {
      const deadlineMs = performance.now() + timeoutMs;
      for (;;) {
        const current = stream;
        try {
          await Promise.race([
            current.checkpoint(2000),
            current.ended.then((error) => Promise.reject(error ?? new Error("ended"))),
          ]);
          return;
        } catch (error) {
          if (performance.now() > deadlineMs) throw new Error(`${name} gets no checkpoint`, { cause: error });
          await sleep(20);
        }
      }
    },
    async stop() {
      stopped = true;
      stream.cancel();
      await resuming;
      client.close();
    },
  };
}
