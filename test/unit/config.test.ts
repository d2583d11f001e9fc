// The configuration: what each variable means, and that all faults are reported together, without a secret.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ConfigError, loadConfig } from "../../src/config/config.ts";
import { makeCertificates, opensslMissing } from "../helpers/certificates.ts";

const directory = mkdtempSync(join(tmpdir(), "sa-config-"));
after(() => rmSync(directory, { recursive: true }));
const file = join(directory, "file.pem");
writeFileSync(file, "not read here");

function faultsOf(env: NodeJS.ProcessEnv): readonly string[] {
  try {
    loadConfig({ HOME: "/home/x", ...env });
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.message, error.faults.join("\n"));
    for (const fault of error.faults) assert.ok(!/[\r\n]/.test(fault), "one line for each fault");
    return error.faults;
  }
  return [];
}

test("without any variable: the defaults", () => {
  assert.deepEqual(loadConfig({ HOME: "/home/x", PATH: "/bin" }), {
    storeUrl: undefined,
    grpcListen: { kind: "tcp", host: "127.0.0.1", port: 50051 },
    httpListen: { kind: "tcp", host: "127.0.0.1", port: 8080 },
    dataDir: "/home/x/.local/share/session-authority",
    idleTimeoutMs: 86_400_000,
    absoluteTimeoutMs: 30 * 86_400_000,
    absoluteTimeoutMaxMs: 400 * 86_400_000,
    touchIntervalMs: undefined,
    requestTimeoutMs: 5_000,
    fenceTimeoutMs: 3_000,
    revokeMinReplicas: 0,
    auditRetentionMs: 90 * 86_400_000,
    rotationGraceMs: 10_000,
    maxSessionsPerUser: 0,
    onExceed: "reject",
    createRate: undefined,
    tenantIndex: true,
    tokenKeysFile: "/home/x/.local/share/session-authority/token_keys.json",
    apiKeysFile: undefined,
    tls: undefined,
    logLevel: "info",
    logSample: 100,
    drainTimeoutMs: 10_000,
    workers: 1,
    maxConnectionAgeMs: undefined,
    cancelRate: { count: 10_000, periodMs: 10_000 },
    reflection: true,
    corsOrigins: [],
    insecure: false,
  });
});

test("every variable is read", () => {
  const config = loadConfig({
    SA_STORE_URL: "rediss://user:pass@store:7000/3",
    SA_GRPC_LISTEN: "[::]:0",
    SA_HTTP_LISTEN: "unix:/run/sa.sock",
    SA_DATA_DIR: "/var/lib/sa",
    SA_IDLE_TIMEOUT: "90s",
    SA_ABSOLUTE_TIMEOUT: "400d",
    SA_ABSOLUTE_TIMEOUT_MAX: "400d",
    SA_TIMEOUT_PROFILE: "aal2",
    SA_TOUCH_INTERVAL: "0",
    SA_REQUEST_TIMEOUT: "500ms",
    SA_FENCE_TIMEOUT: "10s",
    SA_REVOKE_MIN_REPLICAS: "2",
    SA_AUDIT_RETENTION: "365d",
    SA_ROTATION_GRACE: "0s",
    SA_MAX_SESSIONS_PER_USER: "5",
    SA_ON_EXCEED: "evict",
    SA_CREATE_RATE: "10/1h",
    SA_TENANT_INDEX: "false",
    SA_TOKEN_KEYS_FILE: file,
    SA_API_KEYS_FILE: file,
    SA_TLS_CERT_FILE: file,
    SA_TLS_KEY_FILE: file,
    SA_TLS_CLIENT_CA_FILE: file,
    SA_LOG_LEVEL: "debug",
    SA_LOG_SAMPLE: "1",
    SA_DRAIN_TIMEOUT: "2m",
    SA_WORKERS: "64",
    SA_MAX_CONNECTION_AGE: "1h",
    SA_CANCEL_RATE: "500/1s",
    SA_REFLECTION: "false",
    SA_CORS_ORIGINS: "https://app.example.com, http://localhost:3000",
    SA_INSECURE: "true",
  });
  assert.deepEqual(config, {
    storeUrl: {
      kind: "single",
      tls: true,
      username: "user",
      password: "pass",
      database: 3,
      address: { host: "store", port: 7000 },
    },
    grpcListen: { kind: "tcp", host: "::", port: 0 },
    httpListen: { kind: "unix", path: "/run/sa.sock" },
    dataDir: "/var/lib/sa",
    idleTimeoutMs: 90_000,
    absoluteTimeoutMs: 400 * 86_400_000,
    absoluteTimeoutMaxMs: 400 * 86_400_000,
    touchIntervalMs: 0,
    requestTimeoutMs: 500,
    fenceTimeoutMs: 10_000,
    revokeMinReplicas: 2,
    auditRetentionMs: 365 * 86_400_000,
    rotationGraceMs: 0,
    maxSessionsPerUser: 5,
    onExceed: "evict",
    createRate: { count: 10, periodMs: 3_600_000 },
    tenantIndex: false,
    tokenKeysFile: file,
    apiKeysFile: file,
    tls: { certFile: file, keyFile: file, clientCaFile: file },
    logLevel: "debug",
    logSample: 1,
    drainTimeoutMs: 120_000,
    workers: 64,
    maxConnectionAgeMs: 3_600_000,
    cancelRate: { count: 500, periodMs: 1_000 },
    reflection: false,
    corsOrigins: ["https://app.example.com", "http://localhost:3000"],
    insecure: true,
  });
});

test("the data directory follows XDG_DATA_HOME when that is absolute", () => {
  assert.equal(loadConfig({ HOME: "/h", XDG_DATA_HOME: "/xdg" }).dataDir, "/xdg/session-authority");
  assert.equal(loadConfig({ HOME: "/h", XDG_DATA_HOME: "xdg" }).dataDir, "/h/.local/share/session-authority");
  assert.equal(loadConfig({ SA_DATA_DIR: "here" }).dataDir, join(process.cwd(), "here"));
});

test("all faults are reported together, each with the variable, the value and what is expected", () => {
  const faults = faultsOf({
    SA_GRPC_LISTEN: "127.0.0.1",
    SA_IDLE_TIMEOUT: "10",
    SA_LOG_LEVEL: "loud",
    SA_LOG_SAMPLE: "-1",
    SA_INSECURE: "yes",
    SA_DRAIN_TIMEOUT: "",
    SA_API_KEYS_FILE: "/does/not/exist",
    SA_TLS_CERT_FILE: file,
    SA_STROE_URL: "redis://:hunter2@x",
    SA_COLOUR: "hunter2",
  });
  assert.deepEqual(faults, [
    "SA_COLOUR: no such variable",
    "SA_STROE_URL: no such variable; did you mean SA_STORE_URL?",
    'SA_GRPC_LISTEN="127.0.0.1": expected host:port, [::1]:port, :port, unix:/path or off',
    'SA_IDLE_TIMEOUT="10": expected a number with a unit: 500ms, 10s, 5m, 24h, 30d',
    'SA_API_KEYS_FILE="/does/not/exist": expected a file that can be read (ENOENT)',
    'SA_LOG_LEVEL="loud": expected one of fatal, error, warn, info, debug, trace, silent',
    'SA_LOG_SAMPLE="-1": expected a whole number from 0 to 1000000',
    "SA_DRAIN_TIMEOUT: expected a value, but it is empty; remove the variable to use the default",
    'SA_INSECURE="yes": expected true or false',
    "SA_TLS_CERT_FILE: expected SA_TLS_KEY_FILE with it",
  ]);
});

test("an origin is written as browsers send it", () => {
  assert.deepEqual(loadConfig({ SA_CORS_ORIGINS: "*" }).corsOrigins, ["*"]);
  for (const text of ["app.example.com", "https://app.example.com/", "https://a,*", "https://A", "null", "ftp://x"]) {
    assert.match(faultsOf({ SA_CORS_ORIGINS: text }).join(), /^SA_CORS_ORIGINS=.*: expected origins as browsers send/);
  }
});

test("no fault shows the store's password", () => {
  for (const url of ["redis://:hunter2@a,b", "reddis://:hunter2@a", "redis://u:hunter2@a:port", "hunter2"]) {
    const faults = faultsOf({ SA_STORE_URL: url });
    assert.match(faults[0]!, /^SA_STORE_URL: expected a usable store URL; /);
    assert.ok(!faults.join("\n").includes("hunter2"));
  }
});

describe("a duration", () => {
  for (const [text, fault] of [
    ["10", /a number with a unit/],
    ["10 s", /a number with a unit/],
    ["1.5h", /a number with a unit/],
    ["-1s", /a number with a unit/],
    ["1h30m", /a number with a unit/],
    ["10S", /a number with a unit/],
    ["9999999999999d", /a number with a unit/],
    ["999ms", /between 1s and 400d/],
    ["0s", /between 1s and 400d/],
    ["401d", /between 1s and 400d/],
    ["off", /a number with a unit/],
  ] as const) {
    test(`${text} is a fault`, () => {
      assert.match(faultsOf({ SA_IDLE_TIMEOUT: text }).join(), fault);
      assert.match(faultsOf({ SA_ABSOLUTE_TIMEOUT: text }).join(), fault);
    });
  }

  test("off and 0 are accepted only by the variables that document them", () => {
    assert.equal(loadConfig({ SA_MAX_CONNECTION_AGE: "off" }).maxConnectionAgeMs, undefined);
    assert.equal(loadConfig({ SA_MAX_CONNECTION_AGE: "off", SA_WORKERS: "2" }).maxConnectionAgeMs, undefined);
    assert.equal(loadConfig({ SA_TOUCH_INTERVAL: "0ms" }).touchIntervalMs, 0);
    assert.match(faultsOf({ SA_MAX_CONNECTION_AGE: "constructor" }).join(), /or off$/);
  });

  test("with several workers, connections have an age by default, so that load spreads over them", () => {
    assert.equal(loadConfig({ SA_WORKERS: "2" }).maxConnectionAgeMs, 300_000);
    assert.equal(loadConfig({ SA_WORKERS: "2", SA_MAX_CONNECTION_AGE: "1h" }).maxConnectionAgeMs, 3_600_000);
    for (const count of ["0", "65", "auto"]) assert.match(faultsOf({ SA_WORKERS: count }).join(), /from 1 to 64$/);
  });

  test("a touch interval may be longer than the idle timeout, because only a share of that counts", () => {
    assert.equal(loadConfig({ SA_IDLE_TIMEOUT: "10s", SA_TOUCH_INTERVAL: "1d" }).touchIntervalMs, 86_400_000);
  });
});

describe("a listener", () => {
  for (const [text, address] of [
    ["localhost:1", { kind: "tcp", host: "localhost", port: 1 }],
    ["127.8.9.1:65535", { kind: "tcp", host: "127.8.9.1", port: 65535 }],
    ["[::1]:0", { kind: "tcp", host: "::1", port: 0 }],
    ["unix:/tmp/a.sock", { kind: "unix", path: "/tmp/a.sock" }],
    ["unix:///tmp/a.sock", { kind: "unix", path: "/tmp/a.sock" }],
    ["off", undefined],
  ] as const) {
    test(`${text} is accepted, and requires no credentials`, () => {
      assert.deepEqual(loadConfig({ SA_GRPC_LISTEN: text }).grpcListen, address);
      assert.deepEqual(loadConfig({ SA_HTTP_LISTEN: text }).httpListen, address);
    });
  }

  for (const text of [
    "",
    ":",
    "a",
    "1",
    "h:",
    "h:65536",
    "::1:80",
    "[h]:1",
    "1.2.3:4",
    "a b:1",
    "unix:a",
    "unix:",
    "OFF",
  ]) {
    test(`${JSON.stringify(text)} is a fault`, () => {
      assert.match(faultsOf({ SA_HTTP_LISTEN: text }).join(), /^SA_HTTP_LISTEN.*: expected /);
    });
  }

  test("a socket's path that the kernel would cut is a fault", () => {
    assert.match(faultsOf({ SA_GRPC_LISTEN: `unix:/${"x".repeat(107)}` }).join(), /at most 107 bytes/);
  });

  test("none at all, or one address for both, is a fault", () => {
    assert.match(faultsOf({ SA_GRPC_LISTEN: "off", SA_HTTP_LISTEN: "off" }).join(), /at least one listener/);
    assert.match(faultsOf({ SA_GRPC_LISTEN: "127.0.0.1:8080" }).join(), /expected two addresses/);
    assert.deepEqual(faultsOf({ SA_GRPC_LISTEN: "localhost:0", SA_HTTP_LISTEN: "localhost:0" }), []);
  });
});

describe("a listener that other machines can reach", () => {
  const tls = { SA_TLS_CERT_FILE: file, SA_TLS_KEY_FILE: file };
  for (const text of [
    ":1",
    "0.0.0.0:1",
    "[::]:1",
    "10.0.0.1:1",
    "example.org:1",
    "[2001:db8::1]:1",
    "127.0.0.1.nip.io:1",
  ]) {
    test(`${text} is refused, and the fault names what to set`, () => {
      const [fault] = faultsOf({ SA_HTTP_LISTEN: text });
      for (const part of ["SA_HTTP_LISTEN", "SA_TLS_CERT_FILE", "SA_API_KEYS_FILE", "SA_INSECURE=true"]) {
        assert.ok(fault!.includes(part), fault);
      }
      assert.equal(faultsOf({ SA_GRPC_LISTEN: text, SA_INSECURE: "false" }).length, 1);
      assert.deepEqual(faultsOf({ SA_GRPC_LISTEN: text, SA_INSECURE: "true" }), []);
    });
  }

  test("requires both TLS and caller authentication", () => {
    const open = { SA_GRPC_LISTEN: "0.0.0.0:1" };
    assert.match(faultsOf({ ...open, ...tls }).join(), /expected SA_API_KEYS_FILE or SA_TLS_CLIENT_CA_FILE, or/);
    assert.match(
      faultsOf({ ...open, SA_API_KEYS_FILE: file }).join(),
      /expected SA_TLS_CERT_FILE and SA_TLS_KEY_FILE, or/,
    );
    assert.deepEqual(faultsOf({ ...open, ...tls, SA_API_KEYS_FILE: file }), []);
    assert.deepEqual(faultsOf({ ...open, ...tls, SA_TLS_CLIENT_CA_FILE: file }), []);
  });
});

test("a store on another machine requires token keys that its instances share", () => {
  assert.match(faultsOf({ SA_STORE_URL: "redis://store" }).join(), /^SA_TOKEN_KEYS_FILE: .*keys generate/);
  assert.deepEqual(faultsOf({ SA_STORE_URL: "redis://store", SA_TOKEN_KEYS_FILE: file }), []);
  assert.deepEqual(faultsOf({ SA_STORE_URL: "redis://127.0.0.1" }), []);
});

describe("the password of the store", () => {
  const password = join(directory, "password");
  writeFileSync(password, "hunter2\n");

  test("is in the URL or in the file, not in both", () => {
    const { storeUrl } = loadConfig({
      HOME: "/h",
      SA_STORE_URL: "redis://ann@[::1]",
      SA_STORE_PASSWORD_FILE: password,
    });
    assert.equal(storeUrl?.username, "ann");
    assert.equal(storeUrl?.files?.passwordFile, password);
    assert.match(
      faultsOf({ SA_STORE_URL: "redis://hunter2@localhost" }).join(),
      /^SA_STORE_URL: .*PASSWORD_FILE with it$/,
    );
    const both = { SA_STORE_URL: "redis://:hunter2@localhost", SA_STORE_PASSWORD_FILE: password };
    assert.match(faultsOf(both).join(), /both have a password/);
    assert.match(faultsOf({ SA_STORE_PASSWORD_FILE: password }).join(), /expected SA_STORE_URL with it/);
  });

  test("is one line", () => {
    for (const text of ["", "\n", "one\ntwo", "\n\nhunter2"]) {
      const file = join(directory, "not-a-password");
      writeFileSync(file, text);
      const faults = faultsOf({ SA_STORE_URL: "redis://localhost", SA_STORE_PASSWORD_FILE: file });
      assert.match(faults.join(), /^SA_STORE_PASSWORD_FILE=.*the password on one line$/);
    }
  });
});

describe("the TLS files of the store", { skip: opensslMissing() }, () => {
  const url = { SA_STORE_URL: "rediss+cluster://localhost" };
  let names: { SA_STORE_TLS_CA_FILE: string; SA_STORE_TLS_CERT_FILE: string; SA_STORE_TLS_KEY_FILE: string };
  let otherKey: string;
  before(() => {
    const { ca, cert, key } = makeCertificates(directory, "known");
    names = { SA_STORE_TLS_CA_FILE: ca, SA_STORE_TLS_CERT_FILE: cert, SA_STORE_TLS_KEY_FILE: key };
    otherKey = makeCertificates(directory, "other").key;
  });

  test("become part of the store's URL", () => {
    const { storeUrl } = loadConfig({ HOME: "/h", ...url, ...names });
    const { SA_STORE_TLS_CA_FILE: caFile, SA_STORE_TLS_CERT_FILE: certFile, SA_STORE_TLS_KEY_FILE: keyFile } = names;
    assert.deepEqual(storeUrl?.files, { caFile, certFile, keyFile, passwordFile: undefined });
  });

  test("require a URL with TLS", () => {
    for (const SA_STORE_URL of ["redis://localhost", "redis+cluster://localhost", "unix:///run/redis.sock"]) {
      const [fault, ...others] = faultsOf({ SA_STORE_URL, ...names });
      assert.match(fault!, /^SA_STORE_TLS_CA_FILE, SA_STORE_TLS_CERT_FILE, SA_STORE_TLS_KEY_FILE: .*rediss:\/\//);
      assert.deepEqual(others, []);
    }
    assert.match(faultsOf({ SA_STORE_TLS_CA_FILE: names.SA_STORE_TLS_CA_FILE }).join(), /with TLS/);
  });

  test("all that is wrong with them is reported together", () => {
    const faults = faultsOf({
      ...url,
      SA_STORE_TLS_CA_FILE: file,
      SA_STORE_TLS_CERT_FILE: otherKey,
      SA_STORE_TLS_KEY_FILE: file,
    });
    assert.equal(faults.length, 3);
    assert.match(
      faults.join("\n"),
      /CA_FILE=.*certificates in PEM.*\n.*CERT_FILE=.*certificates in PEM.*\n.*KEY_FILE=.*private key/,
    );
    const { SA_STORE_TLS_CERT_FILE: certFile, ...others } = names;
    assert.match(
      faultsOf({ ...url, ...others }).join(),
      /^SA_STORE_TLS_KEY_FILE: expected SA_STORE_TLS_CERT_FILE with it$/,
    );
    assert.match(faultsOf({ ...url, SA_STORE_TLS_CERT_FILE: certFile }).join(), /SA_STORE_TLS_KEY_FILE with it$/);
    assert.match(faultsOf({ ...url, ...names, SA_STORE_TLS_KEY_FILE: otherKey }).join(), /is not the key of/);
  });
});

test("TLS files come together and are files", () => {
  assert.match(faultsOf({ SA_TLS_KEY_FILE: file }).join(), /expected SA_TLS_CERT_FILE with it/);
  assert.match(faultsOf({ SA_TLS_CLIENT_CA_FILE: file }).join(), /SA_TLS_CERT_FILE and SA_TLS_KEY_FILE with it/);
  assert.match(faultsOf({ SA_TLS_CERT_FILE: directory, SA_TLS_KEY_FILE: file }).join(), /something else/);
  assert.match(faultsOf({ SA_DATA_DIR: file }).join(), /expected a directory/);
});

test("a timeout that is set wins over the profile, and the profile over the default", () => {
  const timeouts = (env: NodeJS.ProcessEnv) => {
    const { idleTimeoutMs, absoluteTimeoutMs } = loadConfig(env);
    return [idleTimeoutMs, absoluteTimeoutMs];
  };
  const hours = (...values: number[]) => values.map((value) => value * 3_600_000);
  assert.deepEqual(timeouts({ SA_TIMEOUT_PROFILE: "aal2" }), hours(1, 24));
  assert.deepEqual(timeouts({ SA_TIMEOUT_PROFILE: "aal3", SA_IDLE_TIMEOUT: "10m" }), hours(1 / 6, 12));
  const tooShort = { SA_TIMEOUT_PROFILE: "aal1", SA_ABSOLUTE_TIMEOUT_MAX: "1d" };
  assert.throws(() => loadConfig(tooShort), /^ConfigError: SA_ABSOLUTE_TIMEOUT_MAX: is less than/);
});
