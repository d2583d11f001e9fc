// Puts the whole service together: store, methods, hosts; and takes it apart in the reverse order.

import { existsSync, readFileSync } from "node:fs";
import type { Logger } from "pino";
import type { Config } from "./config/config.ts";
import { createDeadlines } from "./lib/deadlines.ts";
import { listenAddressText, type ListenAddress } from "./lib/listen_address.ts";
import { createAuthentication } from "./auth/authentication.ts";
import { startGrpcHost, type Host } from "./transport/grpc/grpc_host.ts";
import { startHttpHost } from "./transport/http/http_host.ts";
import type { Listen } from "./transport/listener.ts";
import { createMetrics, type MetricsReport } from "./ops/metrics.ts";
import { createPipeline } from "./rpc/pipeline.ts";
import { createReadiness } from "./ops/readiness.ts";
import { createRequestValidation } from "./rpc/request_validation.ts";
import type { RenewOnSibling } from "./service/watch.ts";
import { createSessionService, type SessionStores } from "./service/session_service.ts";
import { createSecurityStore } from "./store/audit.ts";
import { createSessionCreator } from "./store/create_session.ts";
import type { StoreDependencies } from "./store/dependencies.ts";
import { createDeviceSessionStore } from "./store/device_sessions.ts";
import { createHashSessionStore } from "./store/hash_sessions.ts";
import { createSecureSessionStore } from "./store/secure_sessions.ts";
import { createChangeLog } from "./store/watch_change_log.ts";
import { startStoreClock } from "./store/store_clock.ts";
import { createStoreConnection, type StoreConnection } from "./store/connection/connection.ts";
import { startEmbeddedStore } from "./store/embedded/embedded_store.ts";
import { probeStore } from "./store/compatibility/compatibility_check.ts";
import { createScripts } from "./store/scripts.ts";
import { createSessionStore } from "./store/simple_sessions.ts";
import { startSweep } from "./store/sweep.ts";
import { generateTokenKeysFile, parseTokenKeys } from "./auth/token_key_file.ts";
import { LEASE_MS, startWatchBroadcaster, type WatchBroadcaster } from "./watch/broadcaster.ts";
import { watchParsedFile } from "./lib/watched_file.ts";

export type ListenerName = "grpc" | "http";

/** What a worker shares with the others of the same instance; see src/workers. */
export type Siblings = {
  /** As `listen` of src/rpc, for one of the addresses that all share. */
  listen(name: ListenerName, ...listening: Parameters<Listen>): ReturnType<Listen>;
  /** The text of /metrics for all of them. */
  metricsText(): Promise<string>;
  /** Renews a watcher of another; false: nobody has it. */
  readonly renewWatch: RenewOnSibling;
  /** Takes what the others may ask of this one. */
  answerWith(answers: SiblingAnswers): void;
};

export type SiblingAnswers = { metrics(): Promise<MetricsReport>; renewWatch: WatchBroadcaster["renew"] };

export type RunningServer = {
  /** What was bound, `host:port` or `unix:/path`; undefined for a listener that is off. */
  readonly addresses: { readonly grpc?: string; readonly http?: string };
  /** Which store holds the sessions. */
  readonly store: string;
  /** Finishes what is in flight and lets go of everything; the same promise however often it is called. */
  close(): Promise<void>;
};

const STORE_CONNECT_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 20_000;
/** A connection that is over age ends its streams after so long, unless a call may take longer. */
const MIN_AGE_GRACE_MS = 10_000;
/** Of the drain time, what the hosts may use; the rest is for the store. */
const DRAIN_SHARE = 0.8;
const STORE_DOWN = "the store is out of reach";
const DRAINING = "shutting down";

/** Starts the service and resolves once it answers. Rejects, with nothing left behind, when it cannot. */
export async function startServer(config: Config, log: Logger, siblings?: Siblings): Promise<RunningServer> {
  // What has been started, in order; each function undoes one thing.
  const undo: (() => unknown)[] = [];
  const closeAll = async () => {
    for (const step of undo.splice(0).toReversed()) await step();
  };

  try {
    const deadlines = createDeadlines();
    const embedded = config.storeUrl ? undefined : await startEmbeddedStore({ dataDir: config.dataDir, log });
    if (embedded) undo.push(() => embedded.stop());
    const connection = createStoreConnection({ url: config.storeUrl ?? embedded!.url, log, deadlines });
    undo.push(() => connection.close());
    const { shebang, description } = await openStore(connection, log);

    if (!existsSync(config.tokenKeysFile)) generateTokenKeysFile(config.tokenKeysFile);
    const tokenKeys = watchParsedFile(config.tokenKeysFile, { parse: parseTokenKeys, log, what: "token keys" });
    undo.push(() => tokenKeys.close());
    const authentication = createAuthentication({ keysFile: config.apiKeysFile, logger: log });
    undo.push(() => authentication.close());

    const scripts = createScripts({ connection, shebang });
    const stores = createStores({ connection, scripts, settings: config }, log);
    const hub = await startWatchBroadcaster(stores.changes, tokenKeys.current, log);
    undo.push(() => hub.stop());
    const clock = startStoreClock(connection);
    undo.push(() => clock.stop());
    const { methods, encodedHandlers } = createSessionService({
      stores,
      clock,
      broadcaster: hub,
      renewOnSibling: siblings?.renewWatch,
      defaults: config,
      keyRing: tokenKeys.current,
      touchIntervalMs: config.touchIntervalMs,
      requestTimeoutMs: config.requestTimeoutMs,
    });
    const validation = createRequestValidation();
    validation.warm();
    const readiness = createReadiness();
    const metrics = createMetrics(readiness, () => hub.size, siblings?.metricsText);
    siblings?.answerWith({ metrics: metrics.report, renewWatch: hub.renew });
    const pipeline = createPipeline({
      implementation: methods,
      encodedHandlers,
      readiness,
      authenticate: authentication.authenticate,
      validate: validation.validate,
      logger: log,
      requestTimeoutMs: config.requestTimeoutMs,
      logSample: config.logSample,
      // A watcher that reads nothing for a lease is of no use to anybody.
      slowReaderMs: LEASE_MS,
      deadlines,
      observe: metrics.observe,
    });
    const stopWatching = connection.onReadyChange((ready) =>
      ready ? readiness.clear(STORE_DOWN) : readiness.block(STORE_DOWN),
    );
    undo.push(stopWatching);
    undo.push(startSweep(stores.sessions, connection, log));

    const tls = readTls(config);
    const pages = { "/metrics": metrics.page };
    const graceMs = config.drainTimeoutMs * DRAIN_SHARE;
    const { grpcListen, httpListen, maxConnectionAgeMs } = config;
    // No call that has a right to its time is cut off by the age of its connection.
    const maxConnectionAgeGraceMs = Math.max(MIN_AGE_GRACE_MS, config.requestTimeoutMs);
    const listenAs = (name: ListenerName): { listen?: Listen } =>
      siblings ? { listen: siblings.listen.bind(siblings, name) } : {};
    const hosts: Host[] = [];
    undo.push(() => {
      readiness.block(DRAINING);
      return Promise.all(hosts.map((host) => host.drain(graceMs)));
    });
    const bound = async (starting: Promise<Host>) => {
      const host = await starting;
      hosts.push(host);
      return listenAddressText(host.address);
    };
    const startGrpc = (address: ListenAddress) =>
      startGrpcHost({ pipeline, address, tls, maxConnectionAgeMs, maxConnectionAgeGraceMs, ...listenAs("grpc") });
    const startHttp = (address: ListenAddress) =>
      startHttpHost({ pipeline, readiness, address, tls, logger: log, pages, ...listenAs("http") });
    const grpc = grpcListen && (await bound(startGrpc(grpcListen)));
    const http = httpListen && (await bound(startHttp(httpListen)));
    let closed: Promise<void> | undefined;
    return {
      addresses: { ...(grpc && { grpc }), ...(http && { http }) },
      store: embedded ? `${embedded.description} (${description})` : description,
      close: () => (closed ??= closeAll()),
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

function createStores(dependencies: StoreDependencies, log: Logger): SessionStores {
  return {
    create: createSessionCreator(dependencies),
    sessions: createSessionStore(dependencies),
    hashSessions: createHashSessionStore(dependencies),
    secureSessions: createSecureSessionStore(dependencies),
    deviceSessions: createDeviceSessionStore(dependencies),
    audit: createSecurityStore(dependencies),
    changes: createChangeLog(dependencies, log),
  };
}

async function openStore(connection: StoreConnection, log: Logger): Promise<{ shebang: boolean; description: string }> {
  // The deadline says that the store does not answer; a signal that is first would only say that time is up.
  const { signal } = new AbortController();
  const budget = (timeoutMs: number) => ({ deadlineMs: performance.now() + timeoutMs, signal });
  await connection.whenReady(budget(STORE_CONNECT_TIMEOUT_MS));
  const { shebang, description, warnings } = await probeStore(connection, budget(PROBE_TIMEOUT_MS));
  for (const warning of warnings) log.warn(warning);
  return { shebang, description };
}

function readTls({ tls }: Config) {
  return (
    tls && {
      cert: readFileSync(tls.certFile),
      key: readFileSync(tls.keyFile),
      clientCa: tls.clientCaFile === undefined ? undefined : readFileSync(tls.clientCaFile),
    }
  );
}
