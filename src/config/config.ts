// The configuration: parses the SA_* variables, checks them against each other, and reports all faults together.

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { StoreUrl } from "../store/connection/store_url.ts";
import { quote, RULES, timeouts, type VariableValues } from "./rules.ts";
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
    /** The calls that may be cancelled on one connection. */
    cancelRate: values.SA_CANCEL_RATE,
    reflection: values.SA_REFLECTION,
    corsOrigins: values.SA_CORS_ORIGINS ?? [],
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
