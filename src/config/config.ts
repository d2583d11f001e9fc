// The configuration: SA_* variables read, checked against each other, and every fault told at once.

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { LevelWithSilent } from "pino";
import { isLocal, isLocalStore, type Rate, type ParseResult, type Parser } from "./parsers.ts";
import { listenAddressText, type ListenAddress } from "../lib/listen_address.ts";
import { nearestVariable, VARIABLE_NAMES, VARIABLES, type Variable, type VariableName } from "./variables.ts";
import type { StoreUrl } from "../store/connection/store_url.ts";

export type Config = {
  /** undefined: the embedded store, in dataDir. */
  readonly storeUrl: StoreUrl | undefined;
  /** undefined: off. At least one of the two listens. */
  readonly grpcListen: ListenAddress | undefined;
  readonly httpListen: ListenAddress | undefined;
  /** Absolute. */
  readonly dataDir: string;
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  /** undefined: idle/100 of each session, at most 60 s. 0: every access slides. */
  readonly touchIntervalMs: number | undefined;
  readonly requestTimeoutMs: number;
  readonly auditRetentionMs: number;
  /** How long a rotated-away token is honoured. */
  readonly rotationGraceMs: number;
  /** 0: any number. */
  readonly maxSessionsPerUser: number;
  readonly onExceed: "reject" | "evict";
  /** undefined: any number. */
  readonly createRate: Rate | undefined;
  /** Absolute; made when it is missing and lies in dataDir. */
  readonly tokenKeysFile: string;
  readonly apiKeysFile: string | undefined;
  /** undefined: the listeners speak plain text. */
  readonly tls: TlsFiles | undefined;
  readonly logLevel: LevelWithSilent;
  /** One in so many requests is logged; 0: none. */
  readonly logSample: number;
  /** From the signal to the end of the process. */
  readonly drainTimeoutMs: number;
  /** How many processes serve. */
  readonly workers: number;
  /** undefined: connections may live for ever. */
  readonly maxConnectionAgeMs: number | undefined;
  readonly insecure: boolean;
};

/** Paths of PEM files. With clientCaFile, callers must show a certificate that it signed. */
export type TlsFiles = {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string | undefined;
};

/** gRPC clients keep a connection for ever: without an age, a worker that was replaced would stay idle. */
const WORKERS_CONNECTION_AGE_MS = 300_000;

/** The configuration cannot be used. Its message has one line for each fault and no secret. */
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

/** Reads the variables. @throws ConfigError with every fault. */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const faults = unknownVariables(env);
  const values: Partial<Record<VariableName, unknown>> = {};
  for (const name of VARIABLE_NAMES) {
    const variable: Variable<unknown> = VARIABLES[name];
    const text = env[name] ?? variable.default;
    if (text === undefined) continue;
    const { value, expected } = read(variable, text);
    if (expected === undefined) values[name] = value;
    else faults.push(`${name}${variable.secret || text === "" ? "" : `=${quote(text)}`}: expected ${expected}`);
  }
  // Rules between variables only mean something where each of them could be read.
  const readable = (...names: VariableName[]): boolean => names.every((name) => !(name in env) || name in values);
  for (const rule of RULES) {
    if (readable(...rule.of)) faults.push(...rule.faults(values as VariableValues, env));
  }
  if (faults.length > 0) throw new ConfigError(faults);
  return toConfig(values as VariableValues, env);
}

function read(variable: Variable<unknown>, text: string): ParseResult<unknown> {
  // An empty value is most often a template that was not filled in: to take the default would hide that.
  if (text === "") return { expected: "a value, and it is empty; remove the variable to have the default" };
  return variable.parser.parse(text);
}

function unknownVariables(env: NodeJS.ProcessEnv): string[] {
  const unknown = Object.keys(env).filter((name) => name.startsWith("SA_") && !Object.hasOwn(VARIABLES, name));
  // Their values may be secrets under a misspelt name, so they are not shown.
  return unknown.toSorted().map((name) => {
    const nearest = nearestVariable(name);
    return `${quote(name).slice(1, -1)}: no such variable${nearest === undefined ? "" : `; did you mean ${nearest}?`}`;
  });
}

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
      const [cert, key, ca] = [env["SA_TLS_CERT_FILE"], env["SA_TLS_KEY_FILE"], env["SA_TLS_CLIENT_CA_FILE"]];
      const faults: string[] = [];
      if (cert !== undefined && key === undefined) faults.push("SA_TLS_CERT_FILE: expected SA_TLS_KEY_FILE with it");
      if (key !== undefined && cert === undefined) faults.push("SA_TLS_KEY_FILE: expected SA_TLS_CERT_FILE with it");
      if (ca !== undefined && cert === undefined && key === undefined) {
        faults.push("SA_TLS_CLIENT_CA_FILE: expected SA_TLS_CERT_FILE and SA_TLS_KEY_FILE with it");
      }
      return faults;
    },
  },
  {
    of: ["SA_TOUCH_INTERVAL", "SA_IDLE_TIMEOUT"],
    faults({ SA_TOUCH_INTERVAL: touchMs, SA_IDLE_TIMEOUT: idleMs }, env) {
      if (touchMs === undefined || touchMs < idleMs) return [];
      // A session in steady use would die before its first slide.
      return [`SA_TOUCH_INTERVAL=${quote(env["SA_TOUCH_INTERVAL"]!)}: expected less than SA_IDLE_TIMEOUT`];
    },
  },
  {
    of: ["SA_STORE_URL", "SA_TOKEN_KEYS_FILE"],
    faults({ SA_STORE_URL: store, SA_TOKEN_KEYS_FILE: keysFile }) {
      if (store === undefined || isLocalStore(store) || keysFile !== undefined) return [];
      // Instances with keys of their own would call each other's tokens forged.
      return [
        "SA_TOKEN_KEYS_FILE: a store on another machine needs it; make one with `session-authority keys generate FILE`",
      ];
    },
  },
  { of: ["SA_GRPC_LISTEN", "SA_INSECURE"], faults: (values, env) => exposed("SA_GRPC_LISTEN", values, env) },
  { of: ["SA_HTTP_LISTEN", "SA_INSECURE"], faults: (values, env) => exposed("SA_HTTP_LISTEN", values, env) },
];

/** A listener that other machines can reach needs TLS and callers that prove who they are. */
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
      "or a loopback address, or SA_INSECURE=true where the network itself is trusted",
  ];
}

function toConfig(values: VariableValues, env: NodeJS.ProcessEnv): Config {
  const { SA_TLS_CERT_FILE: certFile, SA_TLS_KEY_FILE: keyFile, SA_TLS_CLIENT_CA_FILE: clientCaFile } = values;
  const dataDir = values.SA_DATA_DIR ?? defaultDataDir(env);
  return {
    storeUrl: values.SA_STORE_URL,
    grpcListen: values.SA_GRPC_LISTEN,
    httpListen: values.SA_HTTP_LISTEN,
    dataDir,
    idleTimeoutMs: values.SA_IDLE_TIMEOUT,
    absoluteTimeoutMs: values.SA_ABSOLUTE_TIMEOUT,
    touchIntervalMs: values.SA_TOUCH_INTERVAL,
    requestTimeoutMs: values.SA_REQUEST_TIMEOUT,
    auditRetentionMs: values.SA_AUDIT_RETENTION,
    rotationGraceMs: values.SA_ROTATION_GRACE,
    maxSessionsPerUser: values.SA_MAX_SESSIONS_PER_USER,
    onExceed: values.SA_ON_EXCEED,
    createRate: values.SA_CREATE_RATE,
    tokenKeysFile: values.SA_TOKEN_KEYS_FILE ?? join(dataDir, "token_keys.json"),
    apiKeysFile: values.SA_API_KEYS_FILE,
    tls: certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile, clientCaFile },
    logLevel: values.SA_LOG_LEVEL,
    logSample: values.SA_LOG_SAMPLE,
    drainTimeoutMs: values.SA_DRAIN_TIMEOUT,
    workers: values.SA_WORKERS,
    maxConnectionAgeMs:
      "SA_MAX_CONNECTION_AGE" in env || values.SA_WORKERS === 1
        ? values.SA_MAX_CONNECTION_AGE
        : WORKERS_CONNECTION_AGE_MS,
    insecure: values.SA_INSECURE,
  };
}

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  const base = env["XDG_DATA_HOME"] ?? "";
  // The XDG specification: a relative path is to be ignored.
  return join(isAbsolute(base) ? base : join(env["HOME"] || homedir(), ".local", "share"), "session-authority");
}

/** On one line whatever it holds, and not longer than a line. */
function quote(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}
