// What a probe is, and what it uses of a store: commands, temporary keys, and a second connection that subscribes.

import type { CallDeadline } from "../../domain/call.ts";
import { storeTimeout } from "../../domain/errors.ts";
import type { StoreArguments, StoreConnection, StoreReply } from "../connection/connection.ts";
import { refusalOf, storeError, storeUnavailable } from "../connection/errors.ts";
import { openClient } from "../connection/store_client.ts";
import { CHANGES_CHANNEL } from "../keys.ts";

export type ProbeTools = {
  send(...args: StoreArguments): Promise<StoreReply>;
  /** Returns the name of a temporary key. The probe that creates the key gives it a TTL. */
  key(name: string): string;
  /** Resolves to undefined if the store replies to the command with an error. */
  trySend(...args: StoreArguments): Promise<StoreReply | undefined>;
  warn(warning: string): void;
  /**
   * Resolves to the first message that a second connection receives on the channel after `publish` has run. The connection
   * subscribes to the channel of the changes as well.
   */
  subscribe(channel: string, publish: () => Promise<unknown>): Promise<string | undefined>;
};

export type Probe = {
  readonly command: string;
  /** The consequence for sessions if the probe fails. */
  readonly breaks: string;
  /** The command of an earlier probe, without which this one would fail as well, so that it is skipped. */
  readonly needs?: string;
  /** Resolves to what is wrong, or to undefined. Rejects if the store replies with an error, which is a fault as well. */
  run(tools: ProbeTools): Promise<string | undefined>;
};

/** `fault` is what the store did wrong. */
export type ProbeFailure = Pick<Probe, "command" | "breaks"> & { readonly fault: string };

/** How long a published message may take to reach a subscribed connection. */
const DELIVERY_TIMEOUT_MS = 2000;
const REPLY_TIMEOUT_MS = 5_000;

/** Resolves to undefined if the store replies with an error. */
export async function unlessRefused(reply: Promise<StoreReply>): Promise<StoreReply | undefined> {
  try {
    return await reply;
  } catch (error) {
    if (refusalOf(error) !== undefined) return undefined;
    throw error;
  }
}

export function createTools(
  connection: StoreConnection,
  call: CallDeadline,
  prefix: string,
  warnings: Set<string>,
): ProbeTools {
  function send(...args: StoreArguments): Promise<StoreReply> {
    // One check that gets no reply must not take the time of the others.
    const deadlineMs = Math.min(call.deadlineMs, performance.now() + REPLY_TIMEOUT_MS);
    return connection.send(prefix, args, { ...call, deadlineMs });
  }

  return {
    send,
    key: (name) => prefix + name,
    trySend: (...args) => unlessRefused(send(...args)),
    warn: (warning) => void warnings.add(warning),
    subscribe: (channel, publish) => receiveOnSecondConnection(connection, call, channel, publish),
  };
}

/**
 * Subscribes a second connection to the channel and runs `publish`. Resolves to the first message that the second connection
 * receives, or to undefined if it receives none in time.
 * @throws SessionError if the store does not reply before that: then it is slow or gone, and not necessarily incompatible.
 */
async function receiveOnSecondConnection(
  connection: StoreConnection,
  call: CallDeadline,
  channel: string,
  publish: () => Promise<unknown>,
): Promise<string | undefined> {
  const address = connection.nodeAddress();
  if (address === undefined) throw storeUnavailable();
  const client = openClient(address, connection.url);
  client.on("error", () => undefined);
  const leftMs = () => Math.max(0, call.deadlineMs - performance.now());
  const received = Promise.withResolvers<string | undefined>();
  let late = false;
  // destroy() rejects what is still pending.
  let timer = setTimeout(() => {
    late = true;
    client.destroy();
  }, leftMs());
  try {
    await client.connect();
    await client.subscribe([channel, CHANGES_CHANNEL], (message, from) => {
      if (from === channel) received.resolve(message);
    });
    await publish();
    clearTimeout(timer);
    timer = setTimeout(received.resolve, Math.min(DELIVERY_TIMEOUT_MS, leftMs()), undefined);
    return await received.promise;
  } catch (error) {
    throw late ? storeTimeout() : storeError(error);
  } finally {
    clearTimeout(timer);
    client.destroy();
  }
}
