// The one table of variables: it drives the reading, `--help` and docs/configuration.md.

import {
  boolean,
  directory,
  duration,
  durationOr,
  integer,
  listenAddress,
  oneOf,
  rate,
  readableFile,
  storeUrl,
  type Parser,
} from "./parsers.ts";

export type Variable<T> = {
  readonly parser: Parser<T>;
  /** Read like a value that was given; undefined: the variable has no value then. */
  readonly default?: string;
  /** What holds when there is no value. */
  readonly otherwise?: string;
  readonly doc: string;
  /** The value is never shown, not even in a fault. */
  readonly secret?: true;
};

/** Longest session life that can be configured, and asked for by a caller. */
const LONGEST = "400d";

export const VARIABLES = {
  SA_STORE_URL: {
    parser: storeUrl,
    otherwise: "a store of its own, in SA_DATA_DIR",
    doc: "The store: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`.",
    secret: true,
  },
  SA_GRPC_LISTEN: {
    parser: listenAddress,
    default: "127.0.0.1:50051",
    doc: "Where gRPC is served.",
  },
  SA_HTTP_LISTEN: {
    parser: listenAddress,
    default: "127.0.0.1:8080",
    doc: "Where Connect, gRPC-Web, JSON, /healthz and /readyz are served.",
  },
  SA_DATA_DIR: {
    parser: directory,
    otherwise: "session-authority in $XDG_DATA_HOME, or in ~/.local/share",
    doc: "Where the store of its own keeps its data.",
  },
  SA_IDLE_TIMEOUT: {
    parser: duration("1s", LONGEST),
    default: "24h",
    doc: "A session ends when it is not used for so long, unless its Create says otherwise.",
  },
  SA_ABSOLUTE_TIMEOUT: {
    parser: duration("1s", LONGEST),
    default: "30d",
    doc: "A session ends so long after it was made, used or not, unless its Create says otherwise.",
  },
  SA_TOUCH_INTERVAL: {
    parser: durationOr("0s", "1d", { "0": 0 }),
    otherwise: "a hundredth of the session's idle timeout, at most 60s",
    doc: "Uses closer together than this slide the idle timeout once; 0 slides it every time.",
  },
  SA_REQUEST_TIMEOUT: {
    parser: duration("1ms", "10m"),
    default: "5s",
    doc: "A call without a deadline of its own ends after so long.",
  },
  SA_AUDIT_RETENTION: {
    parser: duration("1s", "3650d"),
    default: "90d",
    doc: "A user's audit trail is kept for so long after its last entry.",
  },
  SA_ROTATION_GRACE: {
    parser: duration("0s", "5m"),
    default: "10s",
    doc: "A token that was rotated away is honoured for so long; its use after that ends the session.",
  },
  SA_MAX_SESSIONS_PER_USER: {
    parser: integer(0, 10_000),
    default: "0",
    doc: "The most live sessions of a user, unless a Create has its own limit; 0: any number.",
  },
  SA_ON_EXCEED: {
    parser: oneOf("reject", "evict"),
    default: "reject",
    doc: "What a Create over SA_MAX_SESSIONS_PER_USER does: fail, or end the sessions least recently accessed.",
  },
  SA_CREATE_RATE: {
    parser: rate,
    otherwise: "any number",
    doc: "The most sessions that one user may create in a time, for example `10/1h`.",
  },
  SA_TOKEN_KEYS_FILE: {
    parser: readableFile,
    otherwise: "token_keys.json in SA_DATA_DIR, made when it is missing; a store on another machine needs the variable",
    doc: "The keys that tokens are minted and checked with; all instances of a store share them.",
  },
  SA_API_KEYS_FILE: {
    parser: readableFile,
    otherwise: "callers are not asked for a key",
    doc: "The API keys that callers must show.",
  },
  SA_TLS_CERT_FILE: {
    parser: readableFile,
    otherwise: "no TLS",
    doc: "The certificate of the listeners, PEM, with its chain. Needs SA_TLS_KEY_FILE.",
  },
  SA_TLS_KEY_FILE: {
    parser: readableFile,
    otherwise: "no TLS",
    doc: "The key of that certificate, PEM. Needs SA_TLS_CERT_FILE.",
  },
  SA_TLS_CLIENT_CA_FILE: {
    parser: readableFile,
    otherwise: "callers need no certificate",
    doc: "Callers must show a certificate signed by one of these, PEM. Needs TLS.",
  },
  SA_LOG_LEVEL: {
    parser: oneOf("fatal", "error", "warn", "info", "debug", "trace", "silent"),
    default: "info",
    doc: "The least important lines that are logged.",
  },
  SA_LOG_SAMPLE: {
    parser: integer(0, 1_000_000),
    default: "100",
    doc: "One in so many requests is logged; 1 logs all of them, 0 none.",
  },
  SA_WORKERS: {
    parser: integer(1, 64),
    default: "1",
    doc: "So many processes serve behind the same addresses; each may keep one processor core busy.",
  },
  SA_DRAIN_TIMEOUT: {
    parser: duration("1s", "10m"),
    default: "10s",
    doc: "After SIGTERM the process is gone within so long; calls in flight may finish until then.",
  },
  SA_MAX_CONNECTION_AGE: {
    parser: durationOr<undefined>("1s", LONGEST, { off: undefined }),
    otherwise: "`off` with one worker, `5m` with several",
    doc: "gRPC connections are asked to reconnect after so long, so that callers spread over workers and new instances.",
  },
  SA_INSECURE: {
    parser: boolean,
    default: "false",
    doc: "Allows a listener that other machines can reach without TLS and caller authentication.",
  },
} as const satisfies Record<string, Variable<unknown>>;

export type VariableName = keyof typeof VARIABLES;
export const VARIABLE_NAMES = Object.keys(VARIABLES) as VariableName[];

/** A variable's text for people: name, shape with its unit, default, and what it is for. */
export type VariableText = { name: VariableName; shape: string; default: string; doc: string };

export function variableTexts(): VariableText[] {
  return VARIABLE_NAMES.map((name) => {
    const variable: Variable<unknown> = VARIABLES[name];
    const fallback = variable.default === undefined ? (variable.otherwise ?? "") : `\`${variable.default}\``;
    return { name, shape: variable.parser.format, default: fallback, doc: variable.doc };
  });
}

/** The known name that is nearest to an unknown one, when one is near. */
export function nearestVariable(name: string): VariableName | undefined {
  const begun = name.length > 4 ? VARIABLE_NAMES.find((known) => known.startsWith(name)) : undefined;
  if (begun !== undefined) return begun;
  const distances = VARIABLE_NAMES.map((known) => ({ known, distance: editDistance(name.toUpperCase(), known) }));
  const nearest = distances.reduce((best, other) => (other.distance < best.distance ? other : best));
  return nearest.distance <= Math.max(2, Math.floor(name.length / 3)) ? nearest.known : undefined;
}

/** Levenshtein: how many characters have to be added, removed or replaced. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}
