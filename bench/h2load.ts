// Load from h2load (Debian: nghttp2-client): a generator in C, so that what it costs hides nothing of a server's cost.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Load = {
  readonly url: string;
  readonly requests: number;
  readonly connections: number;
  /** Requests under way on a connection at once. */
  readonly streams: number;
  readonly http1?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
  /** The request is a POST of this; without it a GET. */
  readonly body?: Uint8Array;
};

export type LoadResult = { readonly seconds: number; readonly latenciesMs: readonly number[] };

/** @throws Error when one request failed or was answered by anything but 2xx. */
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
    const answered = rows.map((row) => row.split("\t")).filter(([, status]) => status === "200");
    if (answered.length !== load.requests) throw new Error(`not all requests were answered by 200:\n${output}`);
    return { seconds, latenciesMs: answered.map(([, , micros]) => Number(micros) / 1000) };
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
