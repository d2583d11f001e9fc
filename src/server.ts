// Puts the whole service together (store, methods, listeners), and stops its parts in the reverse order.

import { existsSync } from "node:fs";
import type { Logger } from "pino";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { SessionService } from "../gen/session/v1/session_service_pb.ts";
import type { Config } from "./config/config.ts";
import { createAuthentication } from "./auth/authentication.ts";
import type { Host } from "./transport/host.ts";
import { startListeners } from "./transport/listeners.ts";
import { createCallLog } from "./ops/call_log.ts";
import { createConnectionLog } from "./ops/connection_report.ts";
import { redirectGrpcLog } from "./ops/grpc_log.ts";
import { healthRoutes } from "./ops/health.ts";
import { createMetrics, type MetricsReport } from "./ops/metrics.ts";
import { createOpenApiPage } from "./ops/openapi.ts";
import { createReadiness, followStore, readinessPage } from "./ops/readiness.ts";
import { reflectionRoutes } from "./ops/reflection.ts";
import { createPipeline } from "./rpc/pipeline.ts";
import { createRequestValidation } from "./rpc/request_validation.ts";
import { sessionRoutes } from "./rpc/routes.ts";
import type { SessionStores } from "./service/dependencies.ts";
import { createSessionService } from "./service/session_service.ts";
import { createAdminEndStore } from "./store/admin_end.ts";
import { createAdminSessionStore } from "./store/admin_sessions.ts";
import { createAdminUserStore } from "./store/admin_users.ts";
import { createAuditStore } from "./store/audit.ts";
import { createChangeLog } from "./store/watch_change_log.ts";
import { startStoreClock } from "./store/store_clock.ts";
import { startRightsRecheck } from "./store/compatibility/rights_recheck.ts";
import { createStoreConnection } from "./store/connection/connection.ts";
import { STORE_FAULTS } from "./store/connection/faults.ts";
import { createSessionCreator } from "./store/create_session.ts";
import type { StoreDependencies } from "./store/dependencies.ts";
import { createDeviceSessionStore } from "./store/device_sessions.ts";
import { createHashSessionStore } from "./store/hash_sessions.ts";
import { createIpBindingStore } from "./store/ip_binding.ts";
import { createRecovery, type Recovery } from "./store/recovery.ts";
import { createRegenerationStore } from "./store/regeneration.ts";
import { createSecureSessionStore } from "./store/secure_sessions.ts";
import { createSessionUpdateStore } from "./store/session_updates.ts";
import { startEmbeddedStore } from "./store/embedded/embedded_store.ts";
import { probeStore } from "./store/compatibility/compatibility_check.ts";
import { createReplication } from "./store/replication.ts";
import { createScripts } from "./store/scripts.ts";
import { createSessionStore } from "./store/simple_sessions.ts";
import { createSweepStore, startSweep } from "./store/sweep.ts";
import { generateTokenKeysFile, parseTokenKeys } from "./auth/token_key_file.ts";
import { LEASE_MS, startWatchBroadcaster } from "./watch/broadcaster.ts";
import { watchParsedFile } from "./lib/watched_file.ts";

/** What a worker uses of the others of the same instance; see src/workers. */
export type Siblings = {
  /** The text of /metrics for all workers. */
  metricsText(): Promise<string>;
  /** Registers what reports this worker's own metrics. */
  handleMetrics(report: () => Promise<MetricsReport>): void;
};

export type RunningServer = {
  /** What was bound, `host:port` or `unix:/path`; undefined for a listener that is off. */
  readonly addresses: { readonly grpc?: string; readonly http?: string };
  /** A description of the store that holds the sessions. */
  readonly store: string;
  /** Finishes the calls in flight and releases everything. Returns the same promise each time it is called. */
  close(): Promise<void>;
};

const STORE_CONNECT_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 20_000;
/** The streams of a connection that has reached its maximal age may go on for so long, or as long as a call may take. */
const MIN_AGE_GRACE_MS = 10_000;
/** The share of the drain time that the listeners may use; the rest is for the store. */
const DRAIN_SHARE = 0.8;
const DRAINING = "shutting down";

/** Starts the service and resolves when it serves. Rejects, with nothing left running, if it cannot start. */
export async function startServer(config: Config, log: Logger, siblings?: Siblings): Promise<RunningServer> {
  await using undo = new AsyncDisposableStack();
  const startup: Startup = { config, log, siblings, undo };
  const store = await openStore(startup);
  const service = await buildService(startup, store);
  const addresses = await startServing(startup, service);
  const running = undo.move();
  let closed: Promise<void> | undefined;
  return { addresses, store: store.description, close: () => (closed ??= running.disposeAsync()) };
}

/** What the steps of the start share. */
type Startup = {
  readonly config: Config;
  readonly log: Logger;
  readonly siblings: Siblings | undefined;
  /** Undoes what has been started, the last step first. */
  readonly undo: AsyncDisposableStack;
};

/** Starts the embedded store if no other is configured, connects, and checks that the store can hold sessions. */
async function openStore({ config, log, undo }: Startup) {
  const embedded = config.storeUrl ? undefined : await startEmbeddedStore({ dataDir: config.dataDir, log });
  if (embedded) undo.defer(() => embedded.stop());
  const { auditRetentionMs, fenceTimeoutMs } = config;
  let takesShebang = true;
  const recovery = createRecovery({ auditRetentionMs, shebang: () => takesShebang, log });
  const url = config.storeUrl ?? embedded!.url;
  const connection = createStoreConnection({ url, log, fenceTimeoutMs, recover: recovery.recover });
  undo.defer(() => connection.close());

  // Never aborted: if time runs out, the deadline's error names the store as the cause.
  const { signal } = new AbortController();
  const within = (timeoutMs: number) => ({ deadlineMs: performance.now() + timeoutMs, signal });
  await connection.whenReady(within(STORE_CONNECT_TIMEOUT_MS));
  const { shebang, description, warnings } = await probeStore(connection, within(PROBE_TIMEOUT_MS));
  // The probes may have tried a command that sessions can do without.
  connection.rightsRestored();
  takesShebang = shebang;
  for (const warning of warnings) log.warn(warning);
  return {
    connection,
    recovery,
    description: embedded ? `${embedded.description} (${description})` : description,
    shebang,
  };
}

/** Creates everything between the store and the listeners. */
async function buildService(startup: Startup, store: Awaited<ReturnType<typeof openStore>>) {
  const { connection, recovery, shebang } = store;
  const { config, log, siblings, undo } = startup;
  if (!existsSync(config.tokenKeysFile)) generateTokenKeysFile(config.tokenKeysFile);
  const tokenKeys = watchParsedFile(config.tokenKeysFile, { parse: parseTokenKeys, log, what: "token keys" });
  undo.defer(() => tokenKeys.close());
  const authentication = createAuthentication({ keysFile: config.apiKeysFile, logger: log });
  undo.defer(() => authentication.close());

  const scripts = createScripts({ connection, shebang });
  const stores = createSessionStores({ connection, scripts, settings: config }, log, recovery);
  const broadcaster = await startWatchBroadcaster(stores.changes, tokenKeys.current, log);
  undo.defer(() => broadcaster.stop());
  const clock = startStoreClock(connection);
  undo.defer(() => clock.stop());
  const { methods, encodedHandlers } = createSessionService({
    ...stores,
    clock,
    broadcaster,
    defaults: config,
    keyRing: tokenKeys.current,
    touchIntervalMs: config.touchIntervalMs,
    requestTimeoutMs: config.requestTimeoutMs,
  });
  const validation = createRequestValidation();
  validation.warm();
  const readiness = createReadiness();
  const metrics = createMetrics({
    readiness,
    openWatchers: () => broadcaster.size,
    storeFaults: { all: STORE_FAULTS, current: connection.fault },
    aggregatedText: siblings?.metricsText,
  });
  siblings?.handleMetrics(metrics.report);
  const pipeline = createPipeline({
    routes: [
      ...sessionRoutes(methods, encodedHandlers),
      ...healthRoutes(readiness),
      ...(config.reflection ? reflectionRoutes([SessionService, Health]) : []),
    ],
    authenticate: authentication.authenticate,
    validate: validation.validate,
    requestTimeoutMs: config.requestTimeoutMs,
    // A cache that has read nothing for a lease has stopped serving already.
    slowReaderMs: LEASE_MS,
    observers: [createCallLog(log, config.logSample), metrics.calls.observe],
  });
  authentication.onChange(() => pipeline.recheckCredentials());
  metrics.calls.initialize(pipeline.routes.map(({ name }) => name));
  undo.defer(followStore(connection, readiness));
  undo.defer(startRightsRecheck(connection));
  undo.defer(startSweep({ store: stores.sweep, connection, clock, changes: broadcaster, log }));
  return { pipeline, readiness, metrics };
}

function createSessionStores(store: StoreDependencies, log: Logger, recovery: Recovery): SessionStores {
  return {
    create: createSessionCreator(store),
    sessions: createSessionStore(store),
    hashSessions: createHashSessionStore(store),
    secureSessions: createSecureSessionStore(store),
    sessionUpdates: createSessionUpdateStore(store),
    deviceSessions: createDeviceSessionStore(store),
    regeneration: createRegenerationStore(store),
    audit: createAuditStore(store),
    adminSessions: createAdminSessionStore(store),
    adminEnd: createAdminEndStore(store),
    adminUsers: createAdminUserStore(store),
    ipBinding: createIpBindingStore(store),
    sweep: createSweepStore(store),
    replication: createReplication(store.connection),
    changes: createChangeLog(store, log, recovery.remember),
  };
}

/** Starts the listeners that are configured; returns their addresses. */
async function startServing(
  { config, log, undo }: Startup,
  { pipeline, readiness, metrics }: Awaited<ReturnType<typeof buildService>>,
): Promise<RunningServer["addresses"]> {
  redirectGrpcLog(log);
  const graceMs = config.drainTimeoutMs * DRAIN_SHARE;
  // The age of a connection never cuts off a call within its deadline.
  const maxConnectionAgeGraceMs = Math.max(MIN_AGE_GRACE_MS, config.requestTimeoutMs);
  const logConnectionEnd = createConnectionLog(log);
  const hosts: Host[] = [];
  undo.defer(async () => {
    readiness.block(DRAINING);
    await Promise.all(hosts.map((host) => host.drain(graceMs)));
  });
  return await startListeners({
    ...config,
    pipeline,
    logger: log,
    maxConnectionAgeGraceMs,
    connectionLimits: {
      cancelRate: config.cancelRate,
      cancelGraceMs: maxConnectionAgeGraceMs,
      onEnd(...end) {
        metrics.observeConnectionEnd(...end);
        logConnectionEnd(...end);
      },
    },
    pages: {
      "/metrics": metrics.page,
      "/readyz": () => readinessPage(readiness),
      "/openapi.json": createOpenApiPage(),
    },
    onStarted: (host) => void hosts.push(host),
  });
}
