// Runs the service by its command line, as a process manager does: its log, its workers, its signals and its exit.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { createAuthorityClient, type AuthorityClient } from "./grpc_client.ts";

export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string };

export type ServiceProcess = {
  readonly pid: number;
  /** From the line "serving". */
  readonly grpc: string;
  readonly http: string;
  readonly serving: LogLine;
  lines(): readonly LogLine[];
  /** Resolves to the first line that matches, after `from` lines. Rejects if the service ends without one. */
  line(matches: (line: LogLine) => boolean, from?: number): Promise<LogLine>;
  /** The process ids of the live workers, in the order in which they became ready. */
  workers(): number[];
  /** Resolves to a worker that became ready after `from` lines. */
  workerReady(from: number): Promise<number>;
  /** Signals the first process, or all of them as a terminal does. Does nothing if they have exited. */
  signal(signal: NodeJS.Signals, to?: "group"): void;
  /** Resolves to the first process's exit code or signal, when every process that shares its output has exited. */
  readonly ended: Promise<number | NodeJS.Signals>;
};

export type FailedStart = { readonly code: number | NodeJS.Signals; readonly stdout: string; readonly stderr: string };

// A test file that fails half-way leaves no service behind.
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) sendSignal(child, "SIGKILL", "group");
});

/** Starts the service with only these variables; resolves when it serves. */
export async function startService(env: Readonly<Record<string, string>>): Promise<ServiceProcess> {
  const started = await startOrFail(env);
  if ("code" in started) throw new Error(`the service ended with ${started.code}: ${started.stdout}${started.stderr}`);
  return started;
}

/** Starts the service; resolves when it serves, or when all its processes have exited before that. */
export async function startOrFail(env: Readonly<Record<string, string>>): Promise<ServiceProcess | FailedStart> {
  const child = spawn(process.execPath, ["src/main.ts"], {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own, as in a terminal.
    detached: true,
  });
  running.add(child);
  const lines: LogLine[] = [];
  const pendingChecks = new Set<() => void>();
  let [stdout, stderr] = ["", ""];
  createInterface({ input: child.stdout }).on("line", (text) => {
    stdout += `${text}\n`;
    lines.push(JSON.parse(text) as LogLine);
    for (const check of pendingChecks) check();
  });
  child.stderr.on("data", (chunk) => (stderr += chunk));
  const ended = once(child, "close").then(([code, signal]) => {
    running.delete(child);
    for (const check of pendingChecks) check();
    return (code ?? signal) as number | NodeJS.Signals;
  });
  let over = false;
  void ended.then(() => (over = true));

  function line(matches: (line: LogLine) => boolean, from = 0): Promise<LogLine> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const found = lines.slice(from).find(matches);
        if (found === undefined && !over) return;
        pendingChecks.delete(check);
        if (found === undefined) reject(new Error(`the service ended: ${stdout}${stderr}`));
        else resolve(found);
      };
      pendingChecks.add(check);
      void ended.then(check);
      check();
    });
  }

  const isReady = ({ msg }: LogLine) => msg === "worker ready";
  const serving = await line(({ msg }) => msg === "serving").catch(() => undefined);
  if (serving === undefined) return { code: await ended, stdout, stderr };
  return {
    pid: child.pid!,
    grpc: String(serving["grpc"]),
    http: String(serving["http"]),
    serving,
    lines: () => lines,
    line,
    workers() {
      const died = new Set(lines.filter(({ msg }) => msg.startsWith("worker died")).map((each) => each["worker"]));
      return lines.filter((each) => isReady(each) && !died.has(each["worker"])).map((each) => Number(each["worker"]));
    },
    workerReady: async (from) => Number((await line(isReady, from))["worker"]),
    signal: (signal, to) => sendSignal(child, signal, to),
    ended,
  };
}

/** Returns true if the process runs. A zombie, which has exited but keeps its id, does not. */
export function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.startsWith("Z");
}

function sendSignal(child: ChildProcess, signal: NodeJS.Signals, to?: "group"): void {
  try {
    process.kill(to === "group" ? -child.pid! : child.pid!, signal);
  } catch {
    // All processes have exited.
  }
}

/** Creates clients with a connection each, which are closed at the end of the test. */
export function connect(t: TestContext, service: ServiceProcess, count: number): AuthorityClient[] {
  const clients = Array.from({ length: count }, () => createAuthorityClient(service.grpc, { ownConnection: true }));
  t.after(() => clients.forEach((client) => client.close()));
  return clients;
}

/** Resolves to the worker that serves this client's connection. The service must log every call. */
export async function workerOf(service: ServiceProcess, client: AuthorityClient): Promise<number> {
  const from = service.lines().length;
  await client.createSession({ userId: "whose" });
  return Number((await service.line(({ msg }) => msg === "call", from))["worker"]);
}
