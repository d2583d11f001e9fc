// Starts a real redis-server for a test, which the test can stop, kill, pause and restart.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** The program that tests start as their store: another one may be tried with the same tests. */
const PROGRAM = process.env["TEST_REDIS_SERVER"] ?? "redis-server";

/** Returns the reason to skip tests that need a real store, or false. Use it as `test(name, { skip: redisServerMissing() }, …)`. */
export function redisServerMissing(): string | false {
  return spawnSync(PROGRAM, ["--version"]).error ? `${PROGRAM} is not installed` : false;
}

export type RedisServerOptions = {
  /** Further arguments, such as `["--maxmemory-policy", "allkeys-lru"]`. They override the defaults. */
  readonly args?: readonly string[];
  /** Listens on a Unix socket and on no port. */
  readonly socket?: boolean;
  /** Further environment variables of the process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Starts a sentinel with this configuration. */
  readonly sentinel?: string;
  /** The port; a free one by default. */
  readonly port?: number;
};

export type RedisServer = {
  /** The address in the form of SA_STORE_URL. */
  readonly url: string;
  /** 0 if the server listens on a Unix socket. */
  readonly port: number;
  readonly socketPath: string | undefined;
  readonly dataDir: string;
  /** The process id of the current process; it changes with a restart. */
  readonly pid: number;
  /** Ends the server and removes its data. May be called again, and when the server is paused or killed. */
  stop(): Promise<void>;
  /** Kills the server by SIGKILL. */
  kill(): Promise<void>;
  /** Stops the process by SIGSTOP: connections stay open, and no command gets a reply. */
  pause(): void;
  resume(): void;
  /** Kills the server if it runs, and starts it on the same address and data (kept only with `--appendonly yes`). */
  restart(): Promise<void>;
  /** Sends one command over a connection of its own. Returns the raw reply. */
  command(...args: string[]): Promise<string>;
};

/** Generous, since a test machine may be busy. */
const START_TIMEOUT_MS = 30_000;

// A test file that fails half-way must leave no store behind.
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export async function startRedisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  // The path is short, because the path of a Unix socket is limited to about 100 bytes.
  const dataDir = await mkdtemp(join(tmpdir(), "sa-redis-"));
  const socketPath = options.socket === true ? join(dataDir, "redis.sock") : undefined;
  const port = socketPath === undefined ? (options.port ?? (await freePort())) : 0;
  let child: ChildProcess | undefined;

  async function start(): Promise<void> {
    const listen = socketPath === undefined ? ["--bind", "127.0.0.1"] : ["--unixsocket", socketPath];
    const role = options.sentinel === undefined ? [] : [join(dataDir, "sentinel.conf"), "--sentinel"];
    if (role[0] !== undefined) await writeFile(role[0], options.sentinel!);
    const defaults = role.length > 0 ? [] : ["--save", "", "--appendonly", "no"];
    const args = [...role, "--port", String(port), ...listen, "--dir", dataDir, ...defaults, ...(options.args ?? [])];
    let output = "";
    const env = { ...process.env, ...options.env };
    const started = spawn(PROGRAM, args, { stdio: ["ignore", "pipe", "pipe"], env });
    started.stdout.on("data", (chunk) => (output += chunk));
    started.stderr.on("data", (chunk) => (output += chunk));
    child = started;
    running.add(started);
    started.once("exit", () => running.delete(started));
    const ended = once(started, "exit").then(() => {
      throw new Error(`redis-server ended during its start:\n${output}`);
    });
    ended.catch(() => undefined);
    try {
      await Promise.race([ended, untilReady()]);
    } catch (error) {
      started.kill("SIGKILL");
      throw error;
    }
  }

  async function untilReady(): Promise<void> {
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < deadlineMs) {
      // An error reply is enough: a replica that waits for its master sends one, and so does a renamed PING.
      const reply = await command("PING").catch(() => undefined);
      if (reply !== undefined && !reply.startsWith("-LOADING")) return;
      await sleep(10);
    }
    throw new Error(`redis-server did not reply within ${START_TIMEOUT_MS} ms`);
  }

  function command(...args: string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = socketPath === undefined ? connect(port, "127.0.0.1") : connect(socketPath);
      let received = "";
      socket.setTimeout(5_000, () => socket.destroy(new Error("redis-server does not reply")));
      socket.on("error", reject);
      socket.on("data", (chunk) => {
        received += chunk.toString("latin1");
        if (replyEnd(received, 0) !== undefined) socket.destroy();
      });
      // SHUTDOWN has no reply, and closes the connection.
      socket.on("close", () => resolve(received.trimEnd()));
      socket.write(encode(args));
    });
  }

  async function kill(): Promise<void> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  await start();
  return {
    url: socketPath === undefined ? `redis://127.0.0.1:${port}` : `unix://${socketPath}`,
    port,
    socketPath,
    dataDir,
    get pid() {
      return child!.pid!;
    },
    async stop() {
      await kill();
      await rm(dataDir, { recursive: true, force: true });
    },
    kill,
    pause: () => void child!.kill("SIGSTOP"),
    resume: () => void child!.kill("SIGCONT"),
    async restart() {
      await kill();
      if (socketPath !== undefined) await rm(socketPath, { force: true });
      await start();
    },
    command,
  };
}

/** Returns a port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** Returns the end of the RESP reply that begins at `start`, or undefined if it is incomplete. */
function replyEnd(text: string, start: number): number | undefined {
  const lineEnd = text.indexOf("\r\n", start);
  if (lineEnd === -1) return undefined;
  const length = Number(text.slice(start + 1, lineEnd));
  if (text[start] === "$" && length >= 0) {
    return text.length >= lineEnd + length + 4 ? lineEnd + length + 4 : undefined;
  }
  let end: number | undefined = lineEnd + 2;
  for (let i = 0; text[start] === "*" && i < length && end !== undefined; i++) end = replyEnd(text, end);
  return end;
}

function encode(args: readonly string[]): string {
  return `*${args.length}\r\n${args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`).join("")}`;
}
