// How the bench installs and starts each peer and fills it with sessions. README.md describes the peers.

import { execFile, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

/** A peer that accepts requests. */
export type RunningPeer = {
  /** host:port. */
  readonly address: string;
  readonly pid: number;
  /** Sends SIGTERM and resolves when the process has ended. May be called again. */
  stop(): Promise<void>;
};

type Common = {
  readonly name: string;
  /** Returns the reason why the peer cannot run here, or undefined if it can. */
  missing(): string | undefined;
  /** Fetches and builds what the peer needs, into ignored folders. Quick, and without the network, if it is there already. */
  install(): Promise<void>;
  start(redisUrl: string): Promise<RunningPeer>;
};

/** A peer that responds to `GET /validate` with 200 and the session, or 401. */
export type HttpPeer = Common & {
  readonly kind: "http";
  /** Creates a session of a new user. Returns the value for the `cookie` header. */
  login(address: string): Promise<string>;
};

/** A peer that implements session.v1.SessionService/ValidateToken. */
export type GrpcPeer = Common & {
  readonly kind: "grpc";
  /** Creates `count` sessions in the store. Returns their tokens. */
  seed(redisUrl: string, count: number): Promise<string[]>;
};

export type Peer = HttpPeer | GrpcPeer;

const ROOT = join(import.meta.dirname, "../..");
/** The data of each session. */
const DATA = "d".repeat(100);
const GO_FOLDER = join(import.meta.dirname, "go");
const GO_TOOLS = join(GO_FOLDER, ".build/bin");
const GO_PROGRAM = join(GO_FOLDER, ".build/peer");
const GO_ENV = { TOKEN_KEY: "5e".repeat(32) };
const MAX_OUTPUT_BYTES = 2 ** 28;

const run = promisify(execFile);
// A bench that fails half-way must leave no peer behind.
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export const PEERS: readonly Peer[] = [
  httpPeer("express-session"),
  httpPeer("fastify-session"),
  httpPeer("better-auth"),
  goPeer(),
];

function httpPeer(name: string): HttpPeer {
  const folder = join(import.meta.dirname, name);
  return {
    kind: "http",
    name,
    missing: () => lacks("npm", "--version"),
    async install() {
      if (isInstalled(folder)) return;
      await run("npm", ["ci", "--omit=dev"], { cwd: folder });
    },
    start: (redisUrl) => start(process.execPath, ["server.js"], folder, { REDIS_URL: redisUrl }),
    async login(address) {
      const headers = { "content-type": "application/json" };
      const body = JSON.stringify({ data: DATA });
      const response = await fetch(`http://${address}/login`, { method: "POST", headers, body });
      const cookies = response.headers.getSetCookie();
      if (!response.ok || cookies.length === 0)
        throw new Error(`${name} responded to a login with status ${response.status}`);
      return cookies.map((cookie) => cookie.split(";", 1)[0]).join("; ");
    },
  };
}

function goPeer(): GrpcPeer {
  return {
    kind: "grpc",
    name: "go",
    missing: () => lacks("go", "version"),
    async install() {
      if (!existsSync(GO_TOOLS)) {
        await run("go", ["install", "tool"], { cwd: GO_FOLDER, env: { ...process.env, GOBIN: GO_TOOLS } });
      }
      const path = [GO_TOOLS, join(ROOT, "node_modules/.bin"), process.env["PATH"]].join(delimiter);
      const template = join(GO_FOLDER, "buf.gen.yaml");
      const env = { ...process.env, PATH: path };
      await run("buf", ["generate", "--template", template, "-o", GO_FOLDER], { cwd: ROOT, env });
      await run("go", ["build", "-o", GO_PROGRAM, "."], { cwd: GO_FOLDER });
    },
    start: (redisUrl) => start(GO_PROGRAM, [], GO_FOLDER, { REDIS_URL: redisUrl, ...GO_ENV }),
    async seed(redisUrl, count) {
      const env = { ...process.env, REDIS_URL: redisUrl, ...GO_ENV };
      const { stdout } = await run(GO_PROGRAM, ["seed", String(count)], { env, maxBuffer: MAX_OUTPUT_BYTES });
      return stdout.trimEnd().split("\n");
    },
  };
}

function lacks(program: string, argument: string): string | undefined {
  return spawnSync(program, [argument]).error ? `${program} is not installed` : undefined;
}

/** Returns true if npm has installed the packages of the current lockfile there. */
function isInstalled(folder: string): boolean {
  const done = join(folder, "node_modules/.package-lock.json");
  return existsSync(done) && statSync(done).mtimeMs >= statSync(join(folder, "package-lock.json")).mtimeMs;
}

async function start(
  program: string,
  args: readonly string[],
  cwd: string,
  env: Record<string, string>,
): Promise<RunningPeer> {
  const variables = { ...process.env, NODE_ENV: "production", PORT: "0", ...env };
  const child = spawn(program, args, { cwd, env: variables, stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  const ended = once(child, "exit").finally(() => running.delete(child));
  const failed = ended.then(() => {
    throw new Error(`${[program, ...args].join(" ")} ended before it listened`);
  });
  failed.catch(() => undefined);
  const [line] = (await Promise.race([once(createInterface(child.stdout), "line"), failed])) as [string];
  const address = /^listening (\S+)$/.exec(line)?.[1];
  if (address === undefined) {
    child.kill("SIGKILL");
    throw new Error(`${program} printed no address, but: ${line}`);
  }
  return {
    address,
    pid: child.pid!,
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
