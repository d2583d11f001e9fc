// `doctor`: checks the configuration and the store as `serve` would use them, and reports the result of each check.

import { pino } from "pino";
import type { Config } from "../config/config.ts";
import { listenAddressText } from "../lib/listen_address.ts";
import type { CallDeadline } from "../domain/call.ts";
import { createLogger } from "../ops/logger.ts";
import { createStoreConnection, type StoreConnection } from "../store/connection/connection.ts";
import { startEmbeddedStore } from "../store/embedded/embedded_store.ts";
import { aclRules } from "../store/compatibility/commands.ts";
import { examineStore, type CheckResult } from "../store/compatibility/compatibility_check.ts";
import { adviseOnStore } from "../store/compatibility/store_advice.ts";
import { describeStoreUrl, type StoreUrl } from "../store/connection/store_url.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const PROBE_TIMEOUT_MS = 20_000;

export type DoctorStatus = "ok" | "failed" | "warning" | "skipped";

/** The result of one check. `check` is what it is about: a command of the store, or a word for what else there is. */
export type DoctorCheck = { readonly check: string; readonly status: DoctorStatus; readonly text: string };

export type Report = (check: DoctorCheck) => void;

const MARKS = { ok: "ok", failed: "FAIL", warning: "warn", skipped: "-" } as const;

/** Formats a check as one line. */
export function doctorLine({ status, text }: DoctorCheck): string {
  return `${MARKS[status].padEnd(4)} ${text}\n`;
}

/** Formats all checks as one JSON document. */
export function doctorJson(checks: readonly DoctorCheck[]): string {
  const healthy = checks.every(({ status }) => status !== "failed");
  return `${JSON.stringify({ healthy, checks }, undefined, 2)}\n`;
}

/** Reports each check. Resolves to true if the service would start on this store. */
export async function runDoctor(config: Config, report: Report): Promise<boolean> {
  const listeners = `gRPC ${listenText(config.grpcListen)}, HTTP ${listenText(config.httpListen)}`;
  report({ check: "configuration", status: "ok", text: `configuration: ${listeners}` });
  if (config.insecure) {
    const text = "SA_INSECURE is true: anybody who reaches a listener may read and change all sessions";
    report({ check: "configuration", status: "warning", text });
  }
  if (config.storeUrl !== undefined) return await checkStore(config.storeUrl, report);
  return await checkEmbeddedStore(config, report);
}

function listenText(address: Config["grpcListen"]): string {
  return address === undefined ? "off" : listenAddressText(address);
}

async function checkEmbeddedStore(config: Config, report: Report): Promise<boolean> {
  try {
    const embedded = await startEmbeddedStore({ dataDir: config.dataDir, log: createLogger({ logLevel: "silent" }) });
    try {
      const status = embedded.kind === "js-redis-server" ? "warning" : "ok";
      report({ check: "embedded store", status, text: `no SA_STORE_URL, so ${embedded.description}` });
      return await checkStore(embedded.url, report);
    } finally {
      await embedded.stop();
    }
  } catch (error) {
    const text = `no SA_STORE_URL, and the embedded store does not start: ${(error as Error).message}`;
    report({ check: "embedded store", status: "failed", text });
    return false;
  }
}

async function checkStore(url: StoreUrl, report: Report): Promise<boolean> {
  const connection = createStoreConnection({ url, log: pino({ level: "silent" }) });
  try {
    await connection.whenReady(within(CONNECT_TIMEOUT_MS));
    report({ check: "connection", status: "ok", text: `store ${describeStoreUrl(url)}: connected` });
    return await reportStore(connection, report);
  } catch (error) {
    report({
      check: "connection",
      status: "failed",
      text: `store ${describeStoreUrl(url)}: ${(error as Error).message}`,
    });
    return false;
  } finally {
    await connection.close();
  }
}

async function reportStore(connection: StoreConnection, report: Report): Promise<boolean> {
  const { description, results, warnings } = await examineStore(connection, within(PROBE_TIMEOUT_MS));
  for (const result of results) report(checkOf(result));
  for (const text of warnings) report({ check: "store", status: "warning", text });
  const refused = results.some((result) => result.outcome === "failed" && result.fault.includes("(ACL)"));
  if (refused) {
    const text = `these rules of ACL SETUSER suffice: ${aclRules(connection.url)}`;
    report({ check: "ACL", status: "warning", text });
  }
  await reportAdvice(connection, report);
  const healthy = results.every(({ outcome }) => outcome === "ok");
  const text = `${description} ${healthy ? "can" : "cannot"} hold sessions`;
  report({ check: "store", status: healthy ? "ok" : "failed", text });
  return healthy;
}

function checkOf(result: CheckResult): DoctorCheck {
  const check = result.command;
  switch (result.outcome) {
    case "ok":
      return { check, status: "ok", text: `${check} works` };
    case "failed":
      return { check, status: "failed", text: `${check}: ${result.fault}; ${result.breaks}` };
    case "skipped":
      return { check, status: "skipped", text: `${check} skipped: it needs ${result.needs}` };
    case "unknown":
      return { check, status: "failed", text: `${check} could not be checked: ${result.error.message}` };
  }
}

async function reportAdvice(connection: StoreConnection, report: Report): Promise<void> {
  try {
    for (const text of await adviseOnStore(connection, within(PROBE_TIMEOUT_MS))) {
      report({ check: "settings", status: "warning", text });
    }
  } catch (error) {
    report({
      check: "settings",
      status: "warning",
      text: `the store's settings could not be read: ${(error as Error).message}`,
    });
  }
}

function within(timeoutMs: number): CallDeadline {
  // Never aborted: if time runs out, the error names the store as the cause.
  return { deadlineMs: performance.now() + timeoutMs, signal: new AbortController().signal };
}
