// The service as a supervisor starts it, by its command line: its log, its workers, its signals and its end.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { createAuthorityClient, type AuthorityClient } from "./grpc_client.ts";

export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string };

export type ServiceProcess = {
  readonly pid: number;
  /** What its start line says. */
  readonly grpc: string;
  readonly http: string;
  readonly serving: LogLine;
  lines(): readonly LogLine[];
  /** The first line, of now or later, that is as asked, from that many lines on. */
  line(isIt: (line: LogLine) => boolean, from?: number): Promise<LogLine>;
  /** The processes of its workers, in the order in which they became ready; those that died are not there. */
  workers(): number[];
  /** Resolves with a worker that became ready after that many lines. */
  workerReady(from: number): Promise<number>;
  /** To its first process alone, or as a terminal does, to all of them; harmless when they are gone. */
  signal(signal: NodeJS.Signals, to?: "group"): void;
  /** The exit code of its first process, or the signal that killed it, once every process that had its output is gone. */
  readonly ended: Promise<number | NodeJS.Signals>;
};

export type FailedStart = { readonly code: number | NodeJS.Signals; readonly stdout: string; readonly stderr: string };

// A test file that fails half-way leaves no service behind.
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) sendSignal(child, "SIGKILL", "group");
});

/** Starts it with these variables and no other; resolves when it serves. */
export async function startService(env: Readonly<Record<string, string>>): Promise<ServiceProcess> {
  const started = await startOrFail(env);
  if ("code" in started) throw new Error(`it ended with ${started.code}: ${started.stdout}${started.stderr}`);
  return started;
}

/** Starts it; resolves when it serves, or when all of it has ended before that. */
export async function startOrFail(env: Readonly<Record<string, string>>): Promise<ServiceProcess | FailedStart> {
  const child = spawn(process.execPath, ["src/main.ts"], {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own, as in a terminal.
    detached: true,
  });
  running.add(child);
  const lines: LogLine[] = [];
  const looking = new Set<() => void>();
  let [stdout, stderr] = ["", ""];
  createInterface({ input: child.stdout }).on("line", (text) => {
    stdout += `${text}\n`;
    lines.push(JSON.parse(text) as LogLine);
    for (const look of looking) look();
  });
  child.stderr.on("data", (chunk) => (stderr += chunk));
  const ended = once(child, "close").then(([code, signal]) => {
    running.delete(child);
    for (const look of looking) look();
    return (code ?? signal) as number | NodeJS.Signals;
  });
  let over = false;
  void ended.then(() => (over = true));

  function line(isIt: (line: LogLine) => boolean, from = 0): Promise<LogLine> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = lines.slice(from).find(isIt);
        if (found === undefined && !over) return;
        looking.delete(look);
        if (found === undefined) reject(new Error(`the service ended: ${stdout}${stderr}`));
        else resolve(found);
      };
      looking.add(look);
      void ended.then(look);
      look();
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

/** Whether the process runs. One that has ended and that nobody has waited for does not, but still has its number. */
export function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.startsWith("Z");
}

function sendSignal(child: ChildProcess, signal: NodeJS.Signals, to?: "group"): void {
  try {
    process.kill(to === "group" ? -child.pid! : child.pid!, signal);
  } catch {
    // All of it is gone.
  }
}

/** Clients with a connection each, closed with the test. */
export function connect(t: TestContext, service: ServiceProcess, count: number): AuthorityClient[] {
  const clients = Array.from({ length: count }, () => createAuthorityClient(service.grpc, { ownConnection: true }));
  t.after(() => clients.forEach((client) => client.close()));
  return clients;
}

/** The worker that serves this client's connection; the service logs every call. */
export async function workerOf(service: ServiceProcess, client: AuthorityClient): Promise<number> {
  const from = service.lines().length;
  await client.createSession({ userId: "whose" });
  return Number((await service.line(({ msg }) => msg === "call", from))["worker"]);
}
