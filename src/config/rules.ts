// The rules between the variables.

import { TIMEOUT_PROFILES } from "../domain/timeout_profiles.ts";
import { listenAddressText } from "../lib/listen_address.ts";
import { isKeyOf, isLocal, isLocalStore, type Parser } from "./parsers.ts";
import type { VariableName, VARIABLES } from "./variables.ts";

export type VariableValues = {
  [N in VariableName]:
    | ((typeof VARIABLES)[N]["parser"] extends Parser<infer T> ? T : never)
    | ((typeof VARIABLES)[N] extends { default: string } ? never : undefined);
};

/** A rule between variables. It is checked only if each of the variables in `of` is valid by itself. */
export type Rule = {
  readonly of: readonly VariableName[];
  faults(values: VariableValues, env: NodeJS.ProcessEnv): string[];
};

export const RULES: readonly Rule[] = [
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
export function timeouts(values: VariableValues, env: NodeJS.ProcessEnv) {
  const profile = values.SA_TIMEOUT_PROFILE && TIMEOUT_PROFILES[values.SA_TIMEOUT_PROFILE];
  const own = { idleTimeoutMs: values.SA_IDLE_TIMEOUT, absoluteTimeoutMs: values.SA_ABSOLUTE_TIMEOUT };
  if (profile === undefined) return own;
  return {
    idleTimeoutMs: "SA_IDLE_TIMEOUT" in env ? own.idleTimeoutMs : profile.idleTimeoutMs,
    absoluteTimeoutMs: "SA_ABSOLUTE_TIMEOUT" in env ? own.absoluteTimeoutMs : profile.absoluteTimeoutMs,
  };
}

/** Quotes a text so that it fits on one line. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}
