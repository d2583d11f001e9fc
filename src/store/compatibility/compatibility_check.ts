// The compatibility check at the start: tests by probes what sessions need of a store, never by its version. The keys of the
// probes have a TTL.

import { randomBytes } from "node:crypto";
import type { CallDeadline } from "../../domain/call.ts";
import { SessionError, storeTimeout } from "../../domain/errors.ts";
import {
  StoreReplyError,
  type StoreArguments,
  type StoreConnection,
  type StoreReply,
} from "../connection/connection.ts";
import { refusalOf, storeError, storeUnavailable } from "../connection/errors.ts";
import { openClient } from "../connection/store_client.ts";
import { PARTITION_TAGS } from "../partition_tags.ts";
import { PROBES, type Probe, type ProbeTools } from "./probes.ts";

/** How long a published message may take to reach a subscribed connection. */
const DELIVERY_TIMEOUT_MS = 2000;
const NO_SHEBANG =
  "scripts cannot declare allow-oom: while the store's memory is full, only the order of their writes lets sessions be used and ended";

export type ProbedStore = {
  /** True if scripts may begin with `#!lua`. */
  readonly shebang: boolean;
  /** The store's name, version and address, for the log. */
  readonly description: string;
  /** What could not be checked, and what is missing but not necessary; for the log. */
  readonly warnings: readonly string[];
};

/** `fault` is what the store did wrong. */
export type ProbeFailure = Pick<Probe, "command" | "breaks"> & { readonly fault: string };

/** The store cannot hold sessions. Each failure names a command. */
export class StoreIncompatibleError extends Error {
  override readonly name = "StoreIncompatibleError";
  readonly failures: readonly ProbeFailure[];

  constructor(description: string, failures: readonly ProbeFailure[]) {
    const lines = failures.map(({ command, fault, breaks }) => `  ${command}: ${fault}; ${breaks}`);
    super(`the store (${description}) cannot hold sessions:\n${lines.join("\n")}`);
    this.failures = failures;
  }
}

/**
 * Runs the probes on every primary of the store.
 * @throws StoreIncompatibleError with all failures of a primary; SessionError if the store could not be reached.
 */
export async function probeStore(connection: StoreConnection, call: CallDeadline): Promise<ProbedStore> {
  const description = await describe(connection, call);
  const failures: ProbeFailure[] = [];
  const warnings = new Set<string>();
  let shebang = true;
  for (const tag of await tagsOfPrimaries(connection, call)) {
    const tools = createTools(connection, call, `sa:{${tag}}:probe:${randomBytes(6).toString("hex")}:`, warnings);
    failures.push(...(await runProbes(tools)));
    if (failures.length > 0) throw new StoreIncompatibleError(description, failures);
    const script = "#!lua flags=no-writes,allow-oom\nreturn {'ok'}";
    shebang &&= (await tools.trySend("EVAL", script, "1", tools.key("shebang"))) !== undefined;
  }
  if (!shebang) warnings.add(NO_SHEBANG);
  return { shebang, description, warnings: [...warnings] };
}

async function runProbes(tools: ProbeTools): Promise<ProbeFailure[]> {
  const failures: ProbeFailure[] = [];
  for (const probe of PROBES) {
    const fault = await faultOf(probe, tools);
    if (fault === undefined) continue;
    failures.push({ command: probe.command, fault, breaks: probe.breaks });
    // The probes that follow would fail for the same reason.
    if (probe.decisive) break;
  }
  return failures;
}

async function faultOf(probe: Probe, tools: ProbeTools): Promise<string | undefined> {
  try {
    return await probe.run(tools);
  } catch (error) {
    const reply = error instanceof SessionError ? error.cause : error;
    if (error instanceof SessionError && error.reason === "STORE_FULL") {
      tools.warn(`${probe.command} could not be checked: the store's memory is full`);
      return undefined;
    }
    if (reply instanceof StoreReplyError && reply.code !== "LOADING") return `it replied "${reply.reply}"`;
    throw error;
  }
}

/** Returns one tag for each primary of the store. */
async function tagsOfPrimaries(connection: StoreConnection, call: CallDeadline): Promise<string[]> {
  if (connection.url.kind !== "cluster") return [PARTITION_TAGS[0]!];
  const infos = await Promise.all(
    PARTITION_TAGS.map(async (tag) => String(await connection.send(`sa:{${tag}}:probe`, ["INFO", "server"], call))),
  );
  const tags = new Map(infos.map((info, index) => [/run_id:(\w+)/.exec(info)?.[1], PARTITION_TAGS[index]!]));
  return [...tags.values()];
}

async function describe(connection: StoreConnection, call: CallDeadline): Promise<string> {
  const info = await unlessRefused(connection.send(`sa:{${PARTITION_TAGS[0]!}}:probe`, ["INFO", "server"], call));
  if (info === undefined) return connection.description;
  const valkey = /valkey_version:(\S+)/.exec(String(info))?.[1];
  const redis = /redis_version:(\S+)/.exec(String(info))?.[1];
  const version = valkey ? `Valkey ${valkey}` : redis ? `Redis ${redis}` : "of unknown version";
  return `${version} at ${connection.description}`;
}

/** Resolves to undefined if the store replies with an error. */
async function unlessRefused(reply: Promise<StoreReply>): Promise<StoreReply | undefined> {
  try {
    return await reply;
  } catch (error) {
    if (refusalOf(error) !== undefined) return undefined;
    throw error;
  }
}

function createTools(
  connection: StoreConnection,
  call: CallDeadline,
  prefix: string,
  warnings: Set<string>,
): ProbeTools {
  function send(...args: StoreArguments): Promise<StoreReply> {
    return connection.send(prefix, args, call);
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
    await client.subscribe(channel, received.resolve);
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
