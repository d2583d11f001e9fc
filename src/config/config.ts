// The configuration: parses the SA_* variables, checks them against each other, and reports all faults together.

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { isKeyOf, isLocal, isLocalStore, type Parser } from "./parsers.ts";
import { TIMEOUT_PROFILES } from "../domain/timeout_profiles.ts";
import { listenAddressText } from "../lib/listen_address.ts";
import type { StoreUrl } from "../store/connection/store_url.ts";
import { nearestVariable, VARIABLE_NAMES, VARIABLES, type Variable, type VariableName } from "./variables.ts";

export type Config = Readonly<ReturnType<typeof toConfig>>;

/** Paths of PEM files. With clientCaFile, callers must present a certificate that it signed. */
export type TlsFiles = {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string | undefined;
};

const NOT_EMPTY = "a value, but it is empty; remove the variable to use the default";

/** gRPC clients keep their connections: without a maximal age, a worker that replaced another one would stay idle. */
const WORKERS_CONNECTION_AGE_MS = 300_000;

/** The configuration is wrong. The message has one line for each fault, and no secret. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(faults.join("\n"));
    this.faults = faults;
  }
}

type VariableValues = {
  [N in VariableName]:
    | ((typeof VARIABLES)[N]["parser"] extends Parser<infer T> ? T : never)
    | ((typeof VARIABLES)[N] extends { default: string } ? never : undefined);
};

/** Parses the variables. @throws ConfigError with every fault. */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const faults = unknownVariables(env);
  const values: Partial<Record<VariableName, unknown>> = {};
  for (const name of VARIABLE_NAMES) {
    const variable: Variable<unknown> = VARIABLES[name];
    const text = env[name] ?? variable.default;
    if (text === undefined) continue;
    // An empty value is most often a template that was not filled in, which the default would hide.
    const { value, expected } = text === "" ? { expected: NOT_EMPTY } : variable.parser.parse(text);
    if (expected === undefined) values[name] = value;
    else faults.push(`${name}${variable.secret || text === "" ? "" : `=${quote(text)}`}: expected ${expected}`);
  }
  const isValid = (name: VariableName): boolean => !(name in env) || name in values;
  for (const rule of RULES) {
    if (rule.of.every(isValid)) faults.push(...rule.faults(values as VariableValues, env));
  }
  if (faults.length > 0) throw new ConfigError(faults);
  return toConfig(values as VariableValues, env);
}

function unknownVariables(env: NodeJS.ProcessEnv): string[] {
  const unknown = Object.keys(env).filter((name) => name.startsWith("SA_") && !Object.hasOwn(VARIABLES, name));
  // Their values are left out, because a misspelt variable may hold a secret.
  return unknown.toSorted().map((name) => {
    const nearest = nearestVariable(name);
    return `${quote(name).slice(1, -1)}: no such variable${nearest === undefined ? "" : `; did you mean ${nearest}?`}`;
  });
}

/** A rule between variables. It is checked only if each of the variables in `of` is valid by itself. */
type Rule = { readonly of: readonly VariableName[]; faults(values: VariableValues, env: NodeJS.ProcessEnv): string[] };

const RULES: readonly Rule[] = [
  {
    of: ["SA_GRPC_LISTEN", "SA_HTTP_LISTEN"],
    faults({ SA_GRPC_LISTEN: grpc, SA_HTTP_LISTEN: http }) {
      if (!grpc && !http) return ["SA_GRPC_LISTEN, SA_HTTP_LISTEN: both are off; expected at least one listener"];
      const same = grpc && http && listenAddressText(grpc) === listenAddressText(http);
      if (!same || (grpc.kind === "tcp" && grpc.port === 0)) return [];
      return [`SA_GRPC_LISTEN, SA_HTTP_LISTEN: both are ${listenAddressText(grpc)}; expected two addresses`];
    },
  },
  {
    of: [],
    faults(_values, env) {
      const [cert, key, ca] = ["SA_TLS_CERT_FILE", "SA_TLS_KEY_FILE", "SA_TLS_CLIENT_CA_FILE"].map(
        (name) => name in env,
      );
      if (cert && !key) return ["SA_TLS_CERT_FILE: expected SA_TLS_KEY_FILE with it"];
      if (key && !cert) return ["SA_TLS_KEY_FILE: expected SA_TLS_CERT_FILE with it"];
      if (!ca || cert) return [];
      return ["SA_TLS_CLIENT_CA_FILE: expected SA_TLS_CERT_FILE and SA_TLS_KEY_FILE with it"];
    },
  },
  {
    of: ["SA_STORE_URL"],
    faults({ SA_STORE_URL: store }, env) {
      const inFile = "SA_STORE_PASSWORD_FILE" in env;
      if (store === undefined) return inFile ? ["SA_STORE_PASSWORD_FILE: expected SA_STORE_URL with it"] : [];
      if (inFile && store.password !== undefined) {
        return ["SA_STORE_URL, SA_STORE_PASSWORD_FILE: both have a password; expected one"];
      }
      if (inFile || store.username === undefined || store.password !== undefined) return [];
      return [
        "SA_STORE_URL: has a user without a password; expected user:password@, or SA_STORE_PASSWORD_FILE with it",
      ];
    },
  },
  {
    of: ["SA_STORE_URL"],
    faults({ SA_STORE_URL: store }, env) {
      const files = (["SA_STORE_TLS_CA_FILE", "SA_STORE_TLS_CERT_FILE", "SA_STORE_TLS_KEY_FILE"] as const).filter(
        (name) => name in env,
      );
      if (files.length === 0 || store?.tls === true) return [];
      return [`${files.join(", ")}: expected a store URL with TLS: rediss://, rediss+sentinel:// or rediss+cluster://`];
    },
  },
  {
    of: ["SA_STORE_TLS_CERT_FILE", "SA_STORE_TLS_KEY_FILE"],
    faults({ SA_STORE_TLS_CERT_FILE: certFile, SA_STORE_TLS_KEY_FILE: keyFile }) {
      if (certFile === undefined && keyFile === undefined) return [];
      if (keyFile === undefined) return ["SA_STORE_TLS_CERT_FILE: expected SA_STORE_TLS_KEY_FILE with it"];
      if (certFile === undefined) return ["SA_STORE_TLS_KEY_FILE: expected SA_STORE_TLS_CERT_FILE with it"];
      return isKeyOf(keyFile, certFile) ? [] : ["SA_STORE_TLS_KEY_FILE: is not the key of SA_STORE_TLS_CERT_FILE"];
    },
  },
  {
    of: ["SA_STORE_URL", "SA_TOKEN_KEYS_FILE"],
    faults({ SA_STORE_URL: store, SA_TOKEN_KEYS_FILE: keysFile }) {
      if (store === undefined || isLocalStore(store) || keysFile !== undefined) return [];
      // Instances with different keys would reject each other's tokens.
      return [
        "SA_TOKEN_KEYS_FILE: required if the store is on another machine; create it with `session-authority keys generate FILE`",
      ];
    },
  },
  {
    of: ["SA_ABSOLUTE_TIMEOUT", "SA_ABSOLUTE_TIMEOUT_MAX", "SA_TIMEOUT_PROFILE"],
    faults(values, env) {
      const { absoluteTimeoutMs } = timeouts(values, env);
      if (absoluteTimeoutMs <= values.SA_ABSOLUTE_TIMEOUT_MAX) return [];
      return [
        "SA_ABSOLUTE_TIMEOUT_MAX: is less than the absolute timeout of a session that sets none; expected at least that",
      ];
    },
  },
  { of: ["SA_GRPC_LISTEN", "SA_INSECURE"], faults: (values, env) => exposed("SA_GRPC_LISTEN", values, env) },
  { of: ["SA_HTTP_LISTEN", "SA_INSECURE"], faults: (values, env) => exposed("SA_HTTP_LISTEN", values, env) },
];

/** A listener that other machines can reach requires TLS and caller authentication. */
function exposed(name: "SA_GRPC_LISTEN" | "SA_HTTP_LISTEN", values: VariableValues, env: NodeJS.ProcessEnv): string[] {
  const address = values[name];
  if (address === undefined || isLocal(address) || values.SA_INSECURE) return [];
  const missing: string[] = [];
  if (!("SA_TLS_CERT_FILE" in env || "SA_TLS_KEY_FILE" in env)) missing.push("SA_TLS_CERT_FILE and SA_TLS_KEY_FILE");
  if (!("SA_API_KEYS_FILE" in env || "SA_TLS_CLIENT_CA_FILE" in env)) {
    missing.push("SA_API_KEYS_FILE or SA_TLS_CLIENT_CA_FILE");
  }
  if (missing.length === 0) return [];
  return [
    `${name}=${quote(listenAddressText(address))}: other machines can reach it; expected ${missing.join(", and ")}, ` +
      "or a loopback address, or SA_INSECURE=true if everybody in the network is trusted",
  ];
}

/** A variable that is set wins over the profile, and the profile over the default. */
function timeouts(values: VariableValues, env: NodeJS.ProcessEnv) {
  const profile = values.SA_TIMEOUT_PROFILE && TIMEOUT_PROFILES[values.SA_TIMEOUT_PROFILE];
  const own = { idleTimeoutMs: values.SA_IDLE_TIMEOUT, absoluteTimeoutMs: values.SA_ABSOLUTE_TIMEOUT };
  if (profile === undefined) return own;
  return {
    idleTimeoutMs: "SA_IDLE_TIMEOUT" in env ? own.idleTimeoutMs : profile.idleTimeoutMs,
    absoluteTimeoutMs: "SA_ABSOLUTE_TIMEOUT" in env ? own.absoluteTimeoutMs : profile.absoluteTimeoutMs,
  };
}

function toConfig(values: VariableValues, env: NodeJS.ProcessEnv) {
  const { SA_TLS_CERT_FILE: certFile, SA_TLS_KEY_FILE: keyFile, SA_TLS_CLIENT_CA_FILE: clientCaFile } = values;
  const dataDir = values.SA_DATA_DIR ?? defaultDataDir(env);
  const tls: TlsFiles | undefined = certFile && keyFile ? { certFile, keyFile, clientCaFile } : undefined;
  const ageIsChosen = "SA_MAX_CONNECTION_AGE" in env || values.SA_WORKERS === 1;
  return {
    /** Undefined: the embedded store in dataDir. */
    storeUrl: storeUrlOf(values),
    /** Undefined: off. At least one of the two listeners is on. */
    grpcListen: values.SA_GRPC_LISTEN,
    httpListen: values.SA_HTTP_LISTEN,
    /** Absolute. */
    dataDir,
    ...timeouts(values, env),
    absoluteTimeoutMaxMs: values.SA_ABSOLUTE_TIMEOUT_MAX,
    /** Undefined: idle/100 of each session, at most 60 s. 0: every access slides the idle timeout. */
    touchIntervalMs: values.SA_TOUCH_INTERVAL,
    requestTimeoutMs: values.SA_REQUEST_TIMEOUT,
    fenceTimeoutMs: values.SA_FENCE_TIMEOUT,
    revokeMinReplicas: values.SA_REVOKE_MIN_REPLICAS,
    auditRetentionMs: values.SA_AUDIT_RETENTION,
    /** How long a rotated-away token stays valid. */
    rotationGraceMs: values.SA_ROTATION_GRACE,
    /** 0: no limit. */
    maxSessionsPerUser: values.SA_MAX_SESSIONS_PER_USER,
    onExceed: values.SA_ON_EXCEED,
    /** Undefined: no limit. */
    createRate: values.SA_CREATE_RATE,
    /** New sessions are put into the index of their tenant. */
    tenantIndex: values.SA_TENANT_INDEX,
    /** Absolute. Generated if it is missing and no variable names it. */
    tokenKeysFile: values.SA_TOKEN_KEYS_FILE ?? join(dataDir, "token_keys.json"),
    apiKeysFile: values.SA_API_KEYS_FILE,
    /** Undefined: the listeners use no TLS. */
    tls,
    logLevel: values.SA_LOG_LEVEL,
    /** One in this many calls is logged; 0: none. */
    logSample: values.SA_LOG_SAMPLE,
    /** The longest time from the signal to the exit of the process. */
    drainTimeoutMs: values.SA_DRAIN_TIMEOUT,
    /** The number of processes that serve. */
    workers: values.SA_WORKERS,
    /** Undefined: connections have no maximal age. */
    maxConnectionAgeMs: ageIsChosen ? values.SA_MAX_CONNECTION_AGE : WORKERS_CONNECTION_AGE_MS,
    insecure: values.SA_INSECURE,
  };
}

/** Returns the store's URL with the files that belong to it. */
function storeUrlOf(values: VariableValues): StoreUrl | undefined {
  const files = {
    caFile: values.SA_STORE_TLS_CA_FILE,
    certFile: values.SA_STORE_TLS_CERT_FILE,
    keyFile: values.SA_STORE_TLS_KEY_FILE,
    passwordFile: values.SA_STORE_PASSWORD_FILE,
  };
  const isNone = Object.values(files).every((file) => file === undefined);
  return values.SA_STORE_URL && (isNone ? values.SA_STORE_URL : { ...values.SA_STORE_URL, files });
}

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  const base = env["XDG_DATA_HOME"] ?? "";
  // The XDG specification requires that a relative path is ignored.
  return join(isAbsolute(base) ? base : join(env["HOME"] || homedir(), ".local", "share"), "session-authority");
}

/** Quotes a text so that it fits on one line. */
function quote(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}
