// TLS and credentials between the service and its store: private authorities, client certificates, a password in a file.

import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import pino from "pino";
import { loadConfig } from "../../src/config/config.ts";
import { probeStore } from "../../src/store/compatibility/compatibility_check.ts";
import { createStoreConnection } from "../../src/store/connection/connection.ts";
import { makeCertificates, opensslMissing, type Certificates } from "../helpers/certificates.ts";
import { freePort, redisServerMissing, startRedisServer, type RedisServer } from "../helpers/redis_server.ts";
import { until } from "../helpers/until.ts";

let directory: string;
let known: Certificates;
let foreign: Certificates;
before(() => {
  if (opensslMissing() !== false) return;
  directory = mkdtempSync(join(tmpdir(), "sa-store-tls-"));
  [known, foreign] = [makeCertificates(directory, "known"), makeCertificates(directory, "foreign")];
});
after(() => directory !== undefined && rmSync(directory, { recursive: true }));

/** Connects and probes as the service does at its start. Resolves to "ok", or to why there is no connection. */
async function connect(env: Record<string, string>, withinMs = 10_000): Promise<string> {
  const { storeUrl } = loadConfig({ HOME: directory ?? tmpdir(), ...env });
  let reason = "no connection in time";
  const failed = Promise.withResolvers<string>();
  const write = (line: string): void => {
    const { err } = JSON.parse(line) as { err?: { message: string; code?: string } };
    if (err === undefined) return;
    reason = `${err.code ?? ""} ${err.message}`;
    // A store with Sentinel or Cluster may need several attempts.
    if (storeUrl!.kind === "single") failed.resolve(reason);
  };
  const connection = createStoreConnection({ url: storeUrl!, log: pino({ level: "debug" }, { write }) });
  const call = { deadlineMs: performance.now() + withinMs, signal: new AbortController().signal };
  try {
    const ready = connection.whenReady(call).then(() => "ok");
    const outcome = await Promise.race([ready, failed.promise]).catch(() => reason);
    ready.catch(() => undefined);
    if (outcome === "ok") await probeStore(connection, call);
    return outcome;
  } finally {
    await connection.close();
  }
}

function tlsEnv({ ca, cert, key }: Certificates): Record<string, string> {
  return { SA_STORE_TLS_CA_FILE: ca, SA_STORE_TLS_CERT_FILE: cert, SA_STORE_TLS_KEY_FILE: key };
}

/** A server that takes TLS on the first port that is returned, and requires client certificates there. */
async function startTlsServer(args: readonly string[] = [], sentinel?: (port: number) => string) {
  const tlsPort = await freePort();
  const { ca, cert, key } = known;
  const tls = ["--tls-port", String(tlsPort), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca];
  const conf = sentinel === undefined ? {} : { sentinel: sentinel(tlsPort) };
  const server = await startRedisServer({ args: [...tls, "--tls-replication", "yes", ...args], ...conf });
  return { server, tlsPort };
}

describe("TLS to the store", { skip: redisServerMissing() || opensslMissing() }, () => {
  let server: RedisServer;
  let url: string;
  before(async () => {
    const started = await startTlsServer(["--bind", "127.0.0.1", "127.0.0.2"]);
    server = started.server;
    url = `rediss://127.0.0.1:${started.tlsPort}`;
  });
  after(() => server.stop());

  test("with the authority and a client certificate, by address and by name", async () => {
    assert.equal(await connect({ SA_STORE_URL: url, ...tlsEnv(known) }), "ok");
    assert.equal(await connect({ SA_STORE_URL: url.replace("127.0.0.1", "localhost"), ...tlsEnv(known) }), "ok");
  });

  test("a store whose certificate another authority signed is refused", async () => {
    assert.match(await connect({ SA_STORE_URL: url, ...tlsEnv({ ...known, ca: foreign.ca }) }), /self.signed|VERIFY/i);
    assert.match(await connect({ SA_STORE_URL: url }), /self.signed|VERIFY/i);
  });

  test("a store that requires a client certificate refuses none, and a foreign one", async () => {
    const none = await connect({ SA_STORE_URL: url, SA_STORE_TLS_CA_FILE: known.ca });
    assert.match(none, /certificate required|closed unexpectedly|ECONNRESET/i);
    const wrong = await connect({ SA_STORE_URL: url, ...tlsEnv({ ...foreign, ca: known.ca }) });
    assert.match(wrong, /alert|closed unexpectedly|ECONNRESET/i);
  });

  test("a certificate that is not for the host is refused", async () => {
    assert.match(await connect({ SA_STORE_URL: url.replace("127.0.0.1", "127.0.0.2"), ...tlsEnv(known) }), /ALTNAME/);
  });

  test("a certificate file that was renewed is used by the next connection", async () => {
    const [ca, cert, key] = ["ca", "cert", "key"].map((name) => join(directory, `renewed-${name}`)) as [
      string,
      string,
      string,
    ];
    const write = (from: Certificates) => {
      copyFileSync(known.ca, ca);
      copyFileSync(from.cert, cert);
      copyFileSync(from.key, key);
    };
    write(foreign);
    const { storeUrl } = loadConfig({ HOME: directory, SA_STORE_URL: url, ...tlsEnv({ ca, cert, key }) });
    const refused = Promise.withResolvers<void>();
    const log = pino(
      { level: "debug" },
      { write: (line: string) => void (line.includes('"err"') && refused.resolve()) },
    );
    const connection = createStoreConnection({ url: storeUrl!, log });
    try {
      await refused.promise;
      write(known);
      await connection.whenReady({ deadlineMs: performance.now() + 10_000, signal: new AbortController().signal });
    } finally {
      await connection.close();
    }
  });

  test("Sentinel", async () => {
    const { server: master, tlsPort } = await startTlsServer();
    const conf = () => `tls-replication yes\nsentinel monitor main 127.0.0.1 ${tlsPort} 1\n`;
    const { server: sentinel, tlsPort: sentinelPort } = await startTlsServer([], conf);
    const storeUrl = `rediss+sentinel://127.0.0.1:${sentinelPort}/main`;
    try {
      assert.equal(await connect({ SA_STORE_URL: storeUrl, ...tlsEnv(known) }), "ok");
      assert.notEqual(await connect({ SA_STORE_URL: storeUrl, ...tlsEnv({ ...known, ca: foreign.ca }) }, 1_000), "ok");
      assert.notEqual(await connect({ SA_STORE_URL: storeUrl, SA_STORE_TLS_CA_FILE: known.ca }, 1_000), "ok");
    } finally {
      await Promise.all([master.stop(), sentinel.stop()]);
    }
  });

  test("Cluster", async () => {
    const args = async () => {
      return ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", String(await freePort())];
    };
    const nodes = await Promise.all([startTlsServer(await args()), startTlsServer(await args())]);
    const [one, other] = nodes.map(({ server: node }) => node) as [RedisServer, RedisServer];
    const ports = nodes.map(({ tlsPort }) => tlsPort);
    const storeUrl = `rediss+cluster://127.0.0.1:${ports[0]}`;
    try {
      await one.command("CLUSTER", "ADDSLOTSRANGE", "0", "8000");
      await other.command("CLUSTER", "ADDSLOTSRANGE", "8001", "16383");
      await other.command("CLUSTER", "SET-CONFIG-EPOCH", "2");
      const busPort = /@(\d+)/.exec(await other.command("CLUSTER", "NODES"))![1]!;
      await one.command("CLUSTER", "MEET", "127.0.0.1", String(ports[1]), busPort);
      const isWhole = async () => {
        const infos = await Promise.all([one, other].map((node) => node.command("CLUSTER", "INFO")));
        return infos.every(
          (info) => info.includes("cluster_state:ok") && info.includes("cluster_slots_assigned:16384"),
        );
      };
      await until("the cluster is whole", isWhole, 20_000);
      assert.equal(await connect({ SA_STORE_URL: storeUrl, ...tlsEnv(known) }), "ok");
      assert.notEqual(await connect({ SA_STORE_URL: storeUrl, ...tlsEnv({ ...known, ca: foreign.ca }) }, 1_000), "ok");
      assert.notEqual(await connect({ SA_STORE_URL: storeUrl, SA_STORE_TLS_CA_FILE: known.ca }, 1_000), "ok");
    } finally {
      await Promise.all([one.stop(), other.stop()]);
    }
  });
});

describe("credentials of the store", { skip: redisServerMissing() }, () => {
  const PASSWORD = "p@ss/w:rd %";
  const encoded = encodeURIComponent(PASSWORD);
  const rules = ["ACL", "SETUSER", "ann", "on", `>${PASSWORD}`, "~*", "&*", "+@all"];

  test("a Unix socket with a user and a password", async () => {
    const server = await startRedisServer({ socket: true });
    try {
      await server.command(...rules);
      await server.command("ACL", "SETUSER", "default", "off");
      const url = (credentials: string) => ({ SA_STORE_URL: `unix://${credentials}${server.socketPath}` });
      assert.equal(await connect(url(`ann:${encoded}@`)), "ok");
      assert.match(await connect(url("ann:wrong@")), /WRONGPASS/);
      assert.match(await connect(url("")), /NOAUTH/);
    } finally {
      await server.stop();
    }
  });

  test("Sentinel, whose sentinels have the password of the store", async () => {
    const master = await startRedisServer({ args: ["--requirepass", PASSWORD] });
    const conf = ["requirepass", "sentinel auth-pass main"].map((setting) => `${setting} "${PASSWORD}"`);
    const monitor = `sentinel monitor main 127.0.0.1 ${master.port} 1`;
    const sentinel = await startRedisServer({ sentinel: `${[monitor, ...conf].join("\n")}\n` });
    const file = join(master.dataDir, "password");
    writeFileSync(file, PASSWORD);
    const storeUrl = `redis+sentinel://127.0.0.1:${sentinel.port}/main`;
    try {
      assert.equal(await connect({ SA_STORE_URL: storeUrl, SA_STORE_PASSWORD_FILE: file }), "ok");
      writeFileSync(file, "wrong");
      assert.match(await connect({ SA_STORE_URL: storeUrl, SA_STORE_PASSWORD_FILE: file }, 1_000), /WRONGPASS/);
    } finally {
      await Promise.all([master.stop(), sentinel.stop()]);
    }
  });

  test("a password in a file, which each connection reads", async () => {
    const server = await startRedisServer();
    const file = join(server.dataDir, "password");
    try {
      await server.command(...rules);
      const env = { SA_STORE_URL: server.url.replace("//", "//ann@"), SA_STORE_PASSWORD_FILE: file };
      writeFileSync(file, "wrong\n");
      assert.match(await connect(env), /WRONGPASS/);
      writeFileSync(file, `${PASSWORD}\n`);
      assert.equal(await connect(env), "ok");
      // Without a user, it is the password of the default user.
      await server.command("CONFIG", "SET", "requirepass", PASSWORD);
      assert.equal(await connect({ ...env, SA_STORE_URL: server.url }), "ok");
    } finally {
      await server.stop();
    }
  });
});
