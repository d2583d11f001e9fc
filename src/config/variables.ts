// The table of all SA_* variables, from which they are parsed and `--help` is printed. docs/configuration.md must match it.

import { closest, distance } from "fastest-levenshtein";
import {
  boolean,
  directory,
  duration,
  durationOr,
  integer,
  listenAddress,
  oneOf,
  origins,
  passwordFile,
  pemCertificates,
  pemPrivateKey,
  rate,
  readableFile,
  storeUrl,
  type Parser,
} from "./parsers.ts";

export type Variable<T> = {
  readonly parser: Parser<T>;
  /** Parsed as if it were the variable's value. Undefined: an absent variable has no value. */
  readonly default?: string;
  /** For people: what applies if there is no value. */
  readonly otherwise?: string;
  readonly doc: string;
  /** The value never appears in a message. */
  readonly secret?: true;
};

/** The longest session life that can be configured, or requested by a caller. */
const LONGEST = "400d";

export const VARIABLES = {
  SA_STORE_URL: {
    parser: storeUrl,
    otherwise: "an embedded store in SA_DATA_DIR",
    doc: "The store: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`.",
    secret: true,
  },
  SA_STORE_PASSWORD_FILE: {
    parser: passwordFile,
    otherwise: "the password in SA_STORE_URL, if any",
    doc: "A file that holds the store's password, so that the URL has none. Each new connection reads it.",
  },
  SA_STORE_TLS_CA_FILE: {
    parser: pemCertificates,
    otherwise: "the certificates that Node trusts",
    doc: "One of these must have signed the store's certificate, PEM. Requires a store URL with TLS, as the next two.",
  },
  SA_STORE_TLS_CERT_FILE: {
    parser: pemCertificates,
    otherwise: "none is presented",
    doc: "The certificate to present to the store, with its chain, PEM. Requires SA_STORE_TLS_KEY_FILE.",
  },
  SA_STORE_TLS_KEY_FILE: {
    parser: pemPrivateKey,
    otherwise: "none",
    doc: "The private key of that certificate, PEM. Requires SA_STORE_TLS_CERT_FILE.",
  },
  SA_GRPC_LISTEN: {
    parser: listenAddress,
    default: "127.0.0.1:50051",
    doc: "The address of the gRPC listener.",
  },
  SA_HTTP_LISTEN: {
    parser: listenAddress,
    default: "127.0.0.1:8080",
    doc: "The address of the listener for Connect, gRPC-Web, JSON, /healthz, /readyz and /metrics.",
  },
  SA_DATA_DIR: {
    parser: directory,
    otherwise: "session-authority in $XDG_DATA_HOME, or in ~/.local/share",
    doc: "The directory for the embedded store's data and for generated token keys.",
  },
  SA_IDLE_TIMEOUT: {
    parser: duration("1s", LONGEST),
    default: "24h",
    doc: "A session ends if it is not accessed for this long. A Create may set another value.",
  },
  SA_ABSOLUTE_TIMEOUT: {
    parser: duration("1s", LONGEST),
    default: "30d",
    doc: "A session ends this long after its creation. A Create may set another value.",
  },
  SA_ABSOLUTE_TIMEOUT_MAX: {
    parser: duration("1s", LONGEST),
    default: "400d",
    doc: "No session ends later than this after its creation, whatever a Create or an UpdateSession says.",
  },
  SA_TIMEOUT_PROFILE: {
    parser: oneOf("aal1", "aal2", "aal3"),
    otherwise: "none",
    doc: "The timeouts of NIST SP 800-63B-4 for an assurance level, for SA_IDLE_TIMEOUT and SA_ABSOLUTE_TIMEOUT where they are not set: 30d and 30d, 1h and 24h, 15m and 12h.",
  },
  SA_TOUCH_INTERVAL: {
    parser: durationOr("0s", "1d", { "0": 0 }),
    otherwise: "a hundredth of the session's idle timeout, at most 60s",
    doc: "Accesses closer together than this slide the idle timeout once; at most a tenth of the session's idle timeout counts. 0: every access slides it.",
  },
  SA_REQUEST_TIMEOUT: {
    parser: duration("1ms", "10m"),
    default: "5s",
    doc: "A unary call ends this long after its headers arrived, or at its own deadline if that is earlier. The request of a server stream must arrive within this time.",
  },
  SA_FENCE_TIMEOUT: {
    parser: duration("1s", "1m"),
    default: "3s",
    doc: "A store node that has accepted no write for this long is not believed any more: validations fail with UNAVAILABLE, and watches get no checkpoint.",
  },
  SA_AUDIT_RETENTION: {
    parser: duration("1s", "3650d"),
    default: "90d",
    doc: "A user's audit trail is kept for this long after its last entry.",
  },
  SA_ROTATION_GRACE: {
    parser: duration("0s", "5m"),
    default: "10s",
    doc: "A rotated-away token stays valid for this long; its use after that ends the session.",
  },
  SA_MAX_SESSIONS_PER_USER: {
    parser: integer(0, 10_000),
    default: "0",
    doc: "The most live sessions of a user; 0: no limit. A Create may set another limit.",
  },
  SA_ON_EXCEED: {
    parser: oneOf("reject", "evict"),
    default: "reject",
    doc: "What a Create over SA_MAX_SESSIONS_PER_USER does: fail, or end the least recently accessed sessions.",
  },
  SA_CREATE_RATE: {
    parser: rate,
    otherwise: "no limit",
    doc: "The most sessions that a user may create in a period, for example `10/1h`.",
  },
  SA_REVOKE_MIN_REPLICAS: {
    parser: integer(0, 16),
    default: "0",
    doc: "The end of a session is acknowledged once this many replicas of the store have it. A call can ask for another number.",
  },
  SA_TENANT_INDEX: {
    parser: boolean,
    default: "true",
    doc: "Keeps an index of each tenant's sessions, about 32 bytes a session, from which sessions are listed across users newest first. Without it, such lists have no order.",
  },
  SA_TOKEN_KEYS_FILE: {
    parser: readableFile,
    otherwise: "token_keys.json in SA_DATA_DIR, generated if missing; required if the store is on another machine",
    doc: "The keys that sign and verify tokens; all instances of a store share them.",
  },
  SA_API_KEYS_FILE: {
    parser: readableFile,
    otherwise: "callers need no API key",
    doc: "The API keys of the callers.",
  },
  SA_TLS_CERT_FILE: {
    parser: readableFile,
    otherwise: "no TLS",
    doc: "The certificate of the listeners with its chain, PEM. Requires SA_TLS_KEY_FILE.",
  },
  SA_TLS_KEY_FILE: {
    parser: readableFile,
    otherwise: "no TLS",
    doc: "The private key of that certificate, PEM. Requires SA_TLS_CERT_FILE.",
  },
  SA_TLS_CLIENT_CA_FILE: {
    parser: readableFile,
    otherwise: "callers need no certificate",
    doc: "Callers must present a certificate that one of these has signed, PEM. Requires TLS.",
  },
  SA_LOG_LEVEL: {
    parser: oneOf("fatal", "error", "warn", "info", "debug", "trace", "silent"),
    default: "info",
    doc: "The lowest level that is logged.",
  },
  SA_LOG_SAMPLE: {
    parser: integer(0, 1_000_000),
    default: "100",
    doc: "One in this many calls is logged; 1: every call, 0: none. Internal errors are always logged.",
  },
  SA_WORKERS: {
    parser: integer(1, 64),
    default: "1",
    doc: "The number of processes that serve the same addresses; each can use one processor core.",
  },
  SA_DRAIN_TIMEOUT: {
    parser: duration("1s", "10m"),
    default: "10s",
    doc: "The process exits within this time after SIGTERM; calls in flight may finish until then.",
  },
  SA_MAX_CONNECTION_AGE: {
    parser: durationOr<undefined>("1s", LONGEST, { off: undefined }),
    otherwise: "`off` with one worker, `5m` with several",
    doc: "gRPC connections are asked to reconnect after this long, so that callers spread over workers and new instances.",
  },
  SA_CANCEL_RATE: {
    parser: rate,
    default: "10000/10s",
    doc: "The most calls that may be cancelled on one connection in a period. The client of a connection over it is asked to open another one.",
  },
  SA_REFLECTION: {
    parser: boolean,
    default: "true",
    doc: "Serves gRPC reflection, from which tools read the contract. Callers need the scope `read` if there are API keys.",
  },
  SA_CORS_ORIGINS: {
    parser: origins,
    otherwise: "none",
    doc: "The web pages whose scripts may call the HTTP listener from a browser.",
  },
  SA_INSECURE: {
    parser: boolean,
    default: "false",
    doc: "Allows a listener that other machines can reach without TLS and caller authentication.",
  },
} as const satisfies Record<string, Variable<unknown>>;

export type VariableName = keyof typeof VARIABLES;
export const VARIABLE_NAMES = Object.keys(VARIABLES) as VariableName[];

/** Returns what people read about each variable: its name, its format with the unit, its default, and its purpose. */
export function variableTexts() {
  return VARIABLE_NAMES.map((name) => {
    const variable: Variable<unknown> = VARIABLES[name];
    const fallback = variable.default === undefined ? (variable.otherwise ?? "") : `\`${variable.default}\``;
    return { name, shape: variable.parser.format, default: fallback, doc: variable.doc };
  });
}

/** Returns the known name that is most similar to an unknown one, or undefined if none is similar. */
export function nearestVariable(name: string): string | undefined {
  const begun = name.length > 4 ? VARIABLE_NAMES.find((known) => known.startsWith(name)) : undefined;
  if (begun !== undefined) return begun;
  const nearest = closest(name.toUpperCase(), VARIABLE_NAMES);
  return distance(name.toUpperCase(), nearest) <= Math.max(2, Math.floor(name.length / 3)) ? nearest : undefined;
}
