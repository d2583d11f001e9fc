// The compatibility check at the start: tests by probes what sessions need of a store, never by its version. The keys of the
// probes have a TTL.

import { randomBytes } from "node:crypto";
import type { CallDeadline } from "../../domain/call.ts";
import { SessionError } from "../../domain/errors.ts";
import { StoreReplyError, type StoreConnection } from "../connection/connection.ts";
import { refusalOf } from "../connection/errors.ts";
import type { StoreUrl } from "../connection/store_url.ts";
import { PARTITION_TAGS } from "../partition_tags.ts";
import { checkCommands } from "./command_check.ts";
import { SENT_COMMANDS } from "./commands.ts";
import { createTools, unlessRefused, type Probe, type ProbeFailure, type ProbeTools } from "./probe_tools.ts";
import { PROBES } from "./probes.ts";

/** The result of the command check if it finds no fault. */
const COMMANDS_OF_SCRIPTS = "calling each command of the scripts";
/** Only a cluster has it. */
const ASKING: Probe = {
  command: "ASKING",
  breaks: SENT_COMMANDS.ASKING,
  run: async ({ send }) => void (await send("ASKING")),
};

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

/** What became of one check. `command` is the one that was checked. */
export type CheckResult =
  | { readonly outcome: "ok"; readonly command: string }
  | ({ readonly outcome: "failed" } & ProbeFailure)
  /** It would fail for the same reason as the check of the command `needs`. */
  | { readonly outcome: "skipped"; readonly command: string; readonly needs: string }
  /** The store did not reply, or could not execute commands at that time. */
  | { readonly outcome: "unknown"; readonly command: string; readonly error: Error };

export type StoreReport = ProbedStore & {
  /** In a cluster, a command that one of the primaries failed has failed. */
  readonly results: readonly CheckResult[];
};

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
 * Runs all checks on every primary of the store.
 * @throws StoreIncompatibleError with all failures; SessionError if there are none and the store did not reply to all checks.
 */
export async function probeStore(connection: StoreConnection, call: CallDeadline): Promise<ProbedStore> {
  const report = await examineStore(connection, call);
  const failures = report.results.filter((result) => result.outcome === "failed");
  if (failures.length > 0) throw new StoreIncompatibleError(report.description, failures);
  for (const result of report.results) if (result.outcome === "unknown") throw result.error;
  return report;
}

/** Runs all checks on every primary of the store, and goes on after one that fails. @throws SessionError before the first. */
export async function examineStore(connection: StoreConnection, call: CallDeadline): Promise<StoreReport> {
  const description = await describe(connection, call);
  const warnings = new Set<string>();
  const ofPrimaries: CheckResult[][] = [];
  let shebang = true;
  for (const tag of await tagsOfPrimaries(connection, call)) {
    const tools = createTools(connection, call, `sa:{${tag}}:probe:${randomBytes(6).toString("hex")}:`, warnings);
    ofPrimaries.push(await runChecks(tools, connection.url));
    shebang &&= await supportsShebang(tools);
  }
  if (!shebang) warnings.add(NO_SHEBANG);
  return { shebang, description, warnings: [...warnings], results: mergeResults(ofPrimaries) };
}

/** Returns the worst result of each command. */
function mergeResults(ofPrimaries: readonly CheckResult[][]): CheckResult[] {
  const merged = new Map<string, CheckResult>();
  for (const result of ofPrimaries.flat()) {
    const { outcome } = merged.get(result.command) ?? {};
    if (outcome === undefined || outcome === "ok" || result.outcome === "failed") merged.set(result.command, result);
  }
  return [...merged.values()];
}

async function runChecks(tools: ProbeTools, url: StoreUrl): Promise<CheckResult[]> {
  const results = new Map<string, CheckResult>();
  const hasPassed = (command: string | undefined) => command === undefined || results.get(command)?.outcome === "ok";
  for (const probe of PROBES) {
    const { command, needs } = probe;
    // The check of the commands may have found a fault of this one already.
    if (results.has(command)) continue;
    results.set(
      command,
      hasPassed(needs) ? await runProbe(probe, tools) : { outcome: "skipped", command, needs: needs! },
    );
    if (command === "EVAL")
      for (const result of await runCommandCheck(tools, hasPassed)) results.set(result.command, result);
  }
  if (url.kind === "cluster") results.set(ASKING.command, await runProbe(ASKING, tools));
  return [...results.values()];
}

async function runCommandCheck(tools: ProbeTools, hasPassed: (command: string) => boolean): Promise<CheckResult[]> {
  if (!hasPassed("EVAL")) return [{ outcome: "skipped", command: COMMANDS_OF_SCRIPTS, needs: "EVAL" }];
  try {
    const failures = await checkCommands(tools);
    if (failures.length === 0) return [{ outcome: "ok", command: COMMANDS_OF_SCRIPTS }];
    return failures.map((failure) => ({ outcome: "failed", ...failure }));
  } catch (error) {
    const refusal = refusalOf(error);
    if (refusal !== undefined) {
      const fault = `it replied "${refusal.reply}"`;
      return [{ outcome: "failed", command: COMMANDS_OF_SCRIPTS, fault, breaks: SENT_COMMANDS.EVAL }];
    }
    return [{ outcome: "unknown", command: COMMANDS_OF_SCRIPTS, error: withReply(error as Error) }];
  }
}

async function runProbe(probe: Probe, tools: ProbeTools): Promise<CheckResult> {
  const { command, breaks } = probe;
  try {
    const fault = await probe.run(tools);
    return fault === undefined ? { outcome: "ok", command } : { outcome: "failed", command, fault, breaks };
  } catch (error) {
    if (error instanceof SessionError && error.reason === "STORE_FULL") {
      tools.warn(`${command} could not be checked: the store's memory is full`);
      return { outcome: "ok", command };
    }
    const refusal = refusalOf(error);
    if (refusal !== undefined) return { outcome: "failed", command, fault: `it replied "${refusal.reply}"`, breaks };
    return { outcome: "unknown", command, error: withReply(error as Error) };
  }
}

/** Returns the error, with the store's reply in its text if there was one: it is starting, or cannot take writes now. */
function withReply(error: Error): Error {
  if (!(error instanceof SessionError && error.cause instanceof StoreReplyError)) return error;
  return new SessionError(error.reason, `${error.message}: it replied "${error.cause.reply}"`, { cause: error.cause });
}

async function supportsShebang(tools: ProbeTools): Promise<boolean> {
  const script = "#!lua flags=no-writes,allow-oom\nreturn {'ok'}";
  // If the store does not reply at all, the checks have that error as well.
  const reply = await tools.trySend("EVAL", script, "1", tools.key("shebang")).catch(() => undefined);
  return reply !== undefined;
}

/** Returns one tag for each primary of the store. */
export async function tagsOfPrimaries(connection: StoreConnection, call: CallDeadline): Promise<string[]> {
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
