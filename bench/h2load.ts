// Generates load by h2load (Debian: nghttp2-client). It is written in C, so that its own cost does not hide the server's.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Load = {
  readonly url: string;
  readonly requests: number;
  readonly connections: number;
  /** Concurrent requests on each connection. */
  readonly streams: number;
  readonly http1?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
  /** The body of a POST. Without it, the requests are GETs. */
  readonly body?: Uint8Array;
};

export type LoadResult = { readonly seconds: number; readonly latenciesMs: readonly number[] };

/** Runs the load. @throws an error if a request fails or its status is not 200. */
export async function h2load(load: Load): Promise<LoadResult> {
  const directory = mkdtempSync(join(tmpdir(), "sa-h2load-"));
  const [logFile, bodyFile] = [join(directory, "log"), join(directory, "body")];
  const args = ["-n", String(load.requests), "-c", String(load.connections), "-m", String(load.streams)];
  args.push(`--log-file=${logFile}`);
  if (load.http1) args.push("--h1");
  for (const [name, value] of Object.entries(load.headers ?? {})) args.push("-H", `${name}: ${value}`);
  if (load.body !== undefined) {
    writeFileSync(bodyFile, load.body);
    args.push("-d", bodyFile);
  }
  try {
    const startedMs = performance.now();
    const output = await run([...args, load.url]);
    const seconds = (performance.now() - startedMs) / 1000;
    const rows = readFileSync(logFile, "utf8").trimEnd().split("\n");
    const succeeded = rows.map((row) => row.split("\t")).filter(([, status]) => status === "200");
    if (succeeded.length !== load.requests) throw new Error(`not every response has status 200:\n${output}`);
    return { seconds, latenciesMs: succeeded.map(([, , micros]) => Number(micros) / 1000) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function run(args: readonly string[]): Promise<string> {
  const child = spawn("h2load", args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`h2load failed:\n${output}`);
  return output;
}
