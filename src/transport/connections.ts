// Ends HTTP/2 connections that are silent, and those on which too many calls are cancelled.

import type { Http2SecureServer, Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { ConnectionObserver } from "../ops/connection_report.ts";

export type ConnectionLimits = {
  /** How long a new connection may take to send its SETTINGS. Default 10,000. */
  readonly settingsTimeoutMs?: number;
  /** How often a connection is pinged. It is ended if no reply has come by the next ping. Default 20,000. */
  readonly pingIntervalMs?: number;
  /** The most calls of a connection that its client may cancel in a period. Default 10,000 in 10 s. */
  readonly cancelRate?: { readonly count: number; readonly periodMs: number };
  /** How long calls may continue on a connection over that rate. Default 10,000. */
  readonly cancelGraceMs?: number;
  readonly onEnd?: ConnectionObserver;
};

const DEFAULT_CANCEL_RATE = { count: 10_000, periodMs: 10_000 };
/** Node's own limit would end a connection with INTERNAL, so it is this many times the other one. */
const NODE_LIMIT_FACTOR = 10;

/** Returns the options of a Node HTTP/2 server which set its own limit of cancelled streams out of the way. */
export function streamResetOptions({ cancelRate = DEFAULT_CANCEL_RATE }: ConnectionLimits) {
  const burst = cancelRate.count * NODE_LIMIT_FACTOR;
  return { streamResetBurst: burst, streamResetRate: Math.ceil((burst * 1000) / cancelRate.periodMs) };
}

/** Applies the limits to every connection of the server. */
export function limitConnections(server: Http2Server | Http2SecureServer, limits: ConnectionLimits): void {
  const counters = new WeakMap<object, CancelCounter>();
  server.on("session", (session) => {
    endIfSilent(session, limits);
    counters.set(session, new CancelCounter(session, limits));
  });
  // One function for all streams: it is registered for each call.
  function count(this: ServerHttp2Stream): void {
    if (this.session !== undefined) counters.get(this.session)?.add();
  }
  server.on("stream", (stream) => void stream.on("aborted", count));
}

function endIfSilent(session: ServerHttp2Session, limits: ConnectionLimits): void {
  const { settingsTimeoutMs = 10_000, pingIntervalMs = 20_000, onEnd } = limits;
  const end = () => {
    if (session.destroyed) return;
    onEnd?.("silent", session.socket?.remoteAddress);
    session.destroy();
  };
  const settingsTimer = setTimeout(end, settingsTimeoutMs).unref();
  session.once("remoteSettings", () => clearTimeout(settingsTimer));

  let awaitsReply = false;
  const pings = setInterval(() => {
    if (session.destroyed) return;
    // In a moment, because this process may have been stalled with the reply unread.
    if (awaitsReply) setImmediate(() => awaitsReply && end());
    else awaitsReply = session.ping((error) => (awaitsReply = error !== null));
  }, pingIntervalMs).unref();
  session.once("close", () => {
    clearTimeout(settingsTimer);
    clearInterval(pings);
  });
}

/** Counts the cancelled calls of one connection. */
class CancelCounter {
  readonly #session: ServerHttp2Session;
  readonly #limits: ConnectionLimits;
  #count = 0;
  #periodEndMs = 0;

  constructor(session: ServerHttp2Session, limits: ConnectionLimits) {
    this.#session = session;
    this.#limits = limits;
  }

  add(): void {
    const { count, periodMs } = this.#limits.cancelRate ?? DEFAULT_CANCEL_RATE;
    const nowMs = performance.now();
    if (nowMs >= this.#periodEndMs) {
      this.#periodEndMs = nowMs + periodMs;
      this.#count = 0;
    }
    // Deferred, because all calls of a connection that its client closes are cancelled before it counts as closed.
    if (++this.#count === count + 1) setImmediate(() => this.#end());
  }

  /**
   * Sends a GOAWAY: the client opens another connection for new calls, and those in flight continue. Those that are left after the
   * grace lose their connection, which clients report as UNAVAILABLE.
   */
  #end(): void {
    const session = this.#session;
    if (session.closed || session.destroyed) return;
    const { cancelGraceMs = 10_000, onEnd } = this.#limits;
    onEnd?.("cancelled_calls", session.socket.remoteAddress);
    session.close();
    const timer = setTimeout(() => session.destroy(), cancelGraceMs).unref();
    session.once("close", () => clearTimeout(timer));
  }
}
