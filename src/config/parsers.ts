// The parsers of variables. Each returns the value, or a text that says what it expected instead.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { BlockList, isIPv4, isIPv6 } from "node:net";
import { resolve } from "node:path";
import type { ListenAddress } from "../lib/listen_address.ts";
import { readPasswordFile } from "../lib/password_file.ts";
import { parseStoreUrl, type StoreUrl } from "../store/connection/store_url.ts";

export type ParseResult<T> =
  | { readonly value: T; readonly expected?: undefined }
  | { readonly value?: undefined; readonly expected: string };

/** `format` describes the accepted texts in `--help` and the docs. */
export type Parser<T> = { readonly format: string; parse(text: string): ParseResult<T> };

const UNITS_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** The kernel's limit for a Unix socket, without the final zero. */
const MAX_SOCKET_PATH_BYTES = 107;

/** Converts 500ms, 10s, 5m, 24h or 30d to milliseconds. Returns undefined for any other text. */
export function parseDurationMs(text: string): number | undefined {
  const parts = /^(\d{1,12})(ms|s|m|h|d)$/.exec(text);
  return parts ? Number(parts[1]) * UNITS_MS[parts[2] as keyof typeof UNITS_MS] : undefined;
}

/** Parses a duration from `min` to `max`; its value is in milliseconds. */
export function duration(min: string, max: string): Parser<number> {
  return durationOr<never>(min, max, {});
}

/** Parses a duration, or one of the words, such as `off`, to the value that stands for it. */
export function durationOr<W>(min: string, max: string, words: Readonly<Record<string, W>>): Parser<number | W> {
  const names = Object.keys(words);
  return {
    format: [`duration ${min}..${max}`, ...names.map((name) => `\`${name}\``)].join(" or "),
    parse(text) {
      if (Object.hasOwn(words, text)) return { value: words[text]! };
      const value = parseDurationMs(text);
      const or = names.map((name) => `, or ${name}`).join("");
      if (value === undefined) return { expected: `a number with a unit: 500ms, 10s, 5m, 24h, 30d${or}` };
      if (value < parseDurationMs(min)! || value > parseDurationMs(max)!)
        return { expected: `between ${min} and ${max}${or}` };
      return { value };
    },
  };
}

/** Parses a whole number from `min` to `max`. */
export function integer(min: number, max: number): Parser<number> {
  return {
    format: `integer ${min}..${max}`,
    parse(text) {
      const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
      return value >= min && value <= max ? { value } : { expected: `a whole number from ${min} to ${max}` };
    },
  };
}

/** A count per period: `10/1h`. */
export type Rate = { readonly count: number; readonly periodMs: number };

export const rate: Parser<Rate> = {
  format: "`count/duration`, count 1..1000000, duration 1s..30d",
  parse(text) {
    const [count = "", period = "", ...rest] = text.split("/");
    const periodMs = parseDurationMs(period) ?? NaN;
    const valid = /^[1-9]\d{0,6}$/.test(count) && Number(count) <= 1_000_000 && rest.length === 0;
    if (!valid || !(periodMs >= 1_000 && periodMs <= 30 * UNITS_MS.d)) {
      return { expected: "a count from 1 to 1000000 and a time from 1s to 30d, as in 10/1h" };
    }
    return { value: { count: Number(count), periodMs } };
  },
};

/** Parses a list of origins of web pages, such as https://app.example.com,http://localhost:3000, or `*` for all of them. */
export const origins: Parser<readonly string[]> = {
  format: "origins, separated by commas, or `*`",
  parse(text) {
    const value = text.split(",").map((origin) => origin.trim());
    if (text === "*" || value.every(isOrigin)) return { value };
    return { expected: "origins as browsers send them, such as https://app.example.com,http://localhost:3000, or *" };
  },
};

function isOrigin(text: string): boolean {
  return /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

/** Parses one of the words. */
export function oneOf<const W extends string>(...words: W[]): Parser<W> {
  return {
    format: words.map((word) => `\`${word}\``).join(", "),
    parse(text) {
      const value = words.find((word) => word === text);
      return value === undefined ? { expected: `one of ${words.join(", ")}` } : { value };
    },
  };
}

export const boolean: Parser<boolean> = {
  format: "`true` or `false`",
  parse: (text) => (text === "true" || text === "false" ? { value: text === "true" } : { expected: "true or false" }),
};

/** Parses the path of a file that this process can read to its absolute path. */
export const readableFile: Parser<string> = {
  format: "path of a file",
  parse(text) {
    try {
      accessSync(text, constants.R_OK);
      return statSync(text).isFile() ? { value: resolve(text) } : { expected: "a file, and this is something else" };
    } catch (error) {
      return { expected: `a file that can be read (${(error as NodeJS.ErrnoException).code})` };
    }
  },
};

/** Parses the path of a file as readableFile does, if `isValid` returns true for it and does not throw. */
function fileOf(what: string, isValid: (path: string) => boolean): Parser<string> {
  return {
    format: readableFile.format,
    parse(text) {
      const file = readableFile.parse(text);
      if (file.expected !== undefined) return file;
      try {
        if (isValid(file.value)) return file;
      } catch {
        // The library's text for it could repeat parts of the file.
      }
      return { expected: `a file with ${what}` };
    },
  };
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

export const pemCertificates = fileOf("certificates in PEM, each of which can be read", (path) => {
  const certificates = readFileSync(path, "latin1").match(CERTIFICATE) ?? [];
  return certificates.map((certificate) => new X509Certificate(certificate)).length > 0;
});

export const pemPrivateKey = fileOf("a private key in PEM, without a passphrase", (path) => {
  return createPrivateKey(readFileSync(path)).type === "private";
});

/** Returns true if the key is that of the first certificate of the file, which is the one that is presented. */
export function isKeyOf(keyFile: string, certFile: string): boolean {
  return new X509Certificate(readFileSync(certFile)).checkPrivateKey(createPrivateKey(readFileSync(keyFile)));
}

export const passwordFile = fileOf("the password on one line", (path) => {
  return /^[^\r\n\0]+$/.test(readPasswordFile(path));
});

/** Parses the path of a directory, which may not exist yet, to its absolute path. */
export const directory: Parser<string> = {
  format: "path of a directory",
  parse(text) {
    const status = statSync(text, { throwIfNoEntry: false });
    if (status !== undefined && !status.isDirectory()) return { expected: "a directory, and this is something else" };
    return { value: resolve(text) };
  },
};

export const storeUrl: Parser<StoreUrl> = {
  format: "URL",
  parse(text) {
    const { url, fault } = parseStoreUrl(text);
    return url === undefined ? { expected: `a usable store URL; ${fault}` } : { value: url };
  },
};

/** Parses host:port, [IPv6]:port, :port (every IPv4 address), unix:/path, or off, whose value is undefined. */
export const listenAddress: Parser<ListenAddress | undefined> = {
  format: "`host:port`, `[::1]:port`, `:port`, `unix:/path` or `off`",
  parse(text) {
    if (text === "off") return { value: undefined };
    if (text.startsWith("unix:")) return parseSocketPath(text);
    const parts = /^(?:\[([^[\]]*)\]|([^[\]:]*)):(\d{1,5})$/.exec(text);
    if (!parts) return { expected: "host:port, [::1]:port, :port, unix:/path or off" };
    const port = Number(parts[3]);
    if (port > 65_535) return { expected: "a port from 0 to 65535" };
    const host = parts[1] ?? (parts[2] || "0.0.0.0");
    if (parts[1] !== undefined && !isIPv6(host)) return { expected: "an IPv6 address between the brackets" };
    if (parts[1] === undefined && !isIPv4(host) && !isHostName(host)) {
      return { expected: "a host name or an IPv4 address before the port" };
    }
    return { value: { kind: "tcp", host, port } };
  },
};

function parseSocketPath(text: string): ParseResult<ListenAddress> {
  const path = text.replace(/^unix:(\/\/(?=\/))?/, "");
  if (!path.startsWith("/") || path.includes("\0"))
    return { expected: "unix: and an absolute path: unix:/run/sa.sock" };
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    return { expected: `a socket path of at most ${MAX_SOCKET_PATH_BYTES} bytes` };
  }
  return { value: { kind: "unix", path } };
}

function isHostName(text: string): boolean {
  // A last label of digits alone is a mistyped IPv4 address.
  return (
    /^(?=.{1,253}$)([A-Za-z0-9]([\w-]*[A-Za-z0-9])?)(\.[A-Za-z0-9]([\w-]*[A-Za-z0-9])?)*$/.test(text) &&
    !/(^|\.)\d+$/.test(text)
  );
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Returns true if only this machine can reach the listener. */
export function isLocal(address: ListenAddress): boolean {
  if (address.kind === "unix" || address.host.toLowerCase() === "localhost") return true;
  if (isIPv4(address.host)) return LOOPBACK.check(address.host, "ipv4");
  return isIPv6(address.host) && LOOPBACK.check(address.host, "ipv6");
}

/** Returns true if every node of the store is on this machine. */
export function isLocalStore(url: StoreUrl): boolean {
  if (url.kind === "single" && url.address.host === undefined) return true;
  const nodes = url.kind === "single" ? [url.address] : url.kind === "cluster" ? url.nodes : url.sentinels;
  return nodes.every((node) => node.host !== undefined && isLocal({ kind: "tcp", host: node.host, port: node.port }));
}
