// `doctor`: checks the configuration and the store as `serve` would use them, and prints one line for each check.

import { pino } from "pino";
import type { Config } from "../config/config.ts";
import { listenAddressText } from "../lib/listen_address.ts";
import type { CallDeadline } from "../domain/call.ts";
import { createLogger } from "../ops/logger.ts";
import { createStoreConnection } from "../store/connection/connection.ts";
import { startEmbeddedStore } from "../store/embedded/embedded_store.ts";
import { probeStore, StoreIncompatibleError } from "../store/compatibility/compatibility_check.ts";
import { PROBES } from "../store/compatibility/probes.ts";
import { describeStoreUrl, type StoreUrl } from "../store/connection/store_url.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const PROBE_TIMEOUT_MS = 20_000;

export type Print = (mark: "ok" | "FAIL" | "warn" | "-", text: string) => void;

/** Prints a line for each check. Resolves to true if the service would start on this store. */
export async function runDoctor(config: Config, print: Print): Promise<boolean> {
  print("ok", `configuration: gRPC ${listenText(config.grpcListen)}, HTTP ${listenText(config.httpListen)}`);
  if (config.insecure)
    print("warn", "SA_INSECURE is true: anybody who reaches a listener may read and change all sessions");
  if (config.storeUrl !== undefined) return await checkStore(config.storeUrl, print);
  return await checkEmbeddedStore(config, print);
}

function listenText(address: Config["grpcListen"]): string {
  return address === undefined ? "off" : listenAddressText(address);
}

async function checkEmbeddedStore(config: Config, print: Print): Promise<boolean> {
  try {
    const embedded = await startEmbeddedStore({ dataDir: config.dataDir, log: createLogger({ logLevel: "silent" }) });
    try {
      print(embedded.kind === "js-redis-server" ? "warn" : "ok", `no SA_STORE_URL, so ${embedded.description}`);
      return await checkStore(embedded.url, print);
    } finally {
      await embedded.stop();
    }
  } catch (error) {
    print("FAIL", `no SA_STORE_URL, and the embedded store does not start: ${(error as Error).message}`);
    return false;
  }
}

type LogLine = { readonly err?: { readonly message?: string } };

async function checkStore(url: StoreUrl, print: Print): Promise<boolean> {
  // The log prints nothing; only the message of its last error is kept.
  let lastError: string | undefined;
  const write = (line: string) => (lastError = (JSON.parse(line) as LogLine).err?.message || lastError);
  const connection = createStoreConnection({ url, log: pino({ level: "debug" }, { write }) });
  try {
    try {
      await connection.whenReady(within(CONNECT_TIMEOUT_MS));
    } catch {
      print("FAIL", `store ${describeStoreUrl(url)}: ${lastError ?? "no connection in time"}`);
      return false;
    }
    print("ok", `store ${describeStoreUrl(url)}: connected`);
    return await printProbes(connection, print);
  } finally {
    await connection.close();
  }
}

async function printProbes(connection: ReturnType<typeof createStoreConnection>, print: Print): Promise<boolean> {
  try {
    const store = await probeStore(connection, within(PROBE_TIMEOUT_MS));
    for (const probe of PROBES) print("ok", `${probe.command} works`);
    for (const warning of store.warnings) print("warn", warning);
    print("ok", `${store.description} can hold sessions`);
    return true;
  } catch (error) {
    if (!(error instanceof StoreIncompatibleError)) {
      print("FAIL", `the store could not be probed: ${(error as Error).message}`);
      return false;
    }
    let reached = true;
    for (const probe of PROBES) {
      const failure = error.failures.find(({ command }) => command === probe.command);
      if (failure) print("FAIL", `${failure.command}: ${failure.fault}; ${failure.breaks}`);
      else print(reached ? "ok" : "-", `${probe.command} ${reached ? "works" : "skipped"}`);
      if (failure && probe.decisive) reached = false;
    }
    return false;
  }
}

function within(timeoutMs: number): CallDeadline {
  return { deadlineMs: performance.now() + timeoutMs, signal: AbortSignal.timeout(timeoutMs) };
}
