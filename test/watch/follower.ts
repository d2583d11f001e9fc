// A watcher that goes on: when its stream breaks it resumes from its last position, on whatever instance answers.

import { setTimeout as sleep } from "node:timers/promises";
import { createWatchClient, type WatchClient, type WatchStream } from "../helpers/watch_client.ts";
import type { Filter, WatcherRecord } from "./history.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

export type Follower = {
  readonly record: WatcherRecord;
  stream(): WatchStream;
  /** Breaks the stream, and does not resume until told so. */
  disconnect(): void;
  reconnect(): void;
  /** Resolves when a checkpoint answers a renewal, on this stream or on one after it. */
  settle(timeoutMs: number): Promise<void>;
  stop(): Promise<void>;
};

const NO_FILTER: Filter = { userIds: [], sessionIds: [], reasons: [] };

/** Opens on `instance`; resolves when that is done. */
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
  let held = false;
  let position = "";

  function open(on: number): void {
    client = createWatchClient(world.instances[on]!.front.address);
    const { userIds, sessionIds, reasons } = record.filter;
    const filter = { userIds: [...userIds], sessionIds: [...sessionIds], reasons: [...reasons] };
    stream = client.watch({ ...filter, resumePosition: position });
    record.streams.push(stream.record);
  }

  async function goOn(): Promise<void> {
    while (!stopped) {
      await stream.ended;
      position = stream.lastPosition();
      client.close();
      while (held && !stopped) await sleep(5);
      if (stopped) return;
      await sleep(10);
      const alive = world.instances.flatMap((each, i) => (each.alive ? [i] : []));
      open(random.pick(alive));
    }
  }

  open(instance);
  await stream!.opened();
  const going = goOn();

  return {
    record,
    stream: () => stream,
    disconnect() {
      held = true;
      stream.cancel();
    },
    reconnect: () => void (held = false),
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
      await going;
      client.close();
    },
  };
}
