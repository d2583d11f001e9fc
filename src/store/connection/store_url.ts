// SA_STORE_URL: the store's address and topology. No text that is made here contains the password.

/** The address of one store process. */
export type NodeAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string; readonly host?: undefined };

export type HostPort = { readonly host: string; readonly port: number };

/** How to enter any process of the store. */
export type StoreAccess = {
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  readonly files?: StoreFiles;
};

/** The paths of files that each new connection reads, so that renewed ones are used without a restart. */
export type StoreFiles = {
  /** The certificates that may have signed the store's, PEM; undefined: those that Node trusts. */
  readonly caFile?: string | undefined;
  /** The certificate and the private key to present, PEM. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** Holds the password, in place of `password`. */
  readonly passwordFile?: string | undefined;
};

export type SingleStoreUrl = StoreAccess & { readonly kind: "single"; readonly address: NodeAddress };
export type SentinelStoreUrl = StoreAccess & {
  readonly kind: "sentinel";
  readonly sentinels: readonly HostPort[];
  readonly masterName: string;
};
export type ClusterStoreUrl = StoreAccess & { readonly kind: "cluster"; readonly nodes: readonly HostPort[] };
export type StoreUrl = SingleStoreUrl | SentinelStoreUrl | ClusterStoreUrl;

/** Thrown only inside this file; its message becomes the fault. */
class UrlFault extends Error {}

const FORMS =
  "redis://[user:password@]host[:port][/db], rediss://…, unix://[user:password@]/path/to.sock, " +
  "redis+sentinel://[user:password@]host[:port],…/master-name[/db], redis+cluster://[user:password@]host[:port],…";

/**
 * Returns the `url`, or a `fault` that names what is wrong without repeating the text, which may contain a password. A URL
 * with a user and no password is accepted: a file may hold the password.
 */
export function parseStoreUrl(text: string) {
  try {
    return { url: parse(text.trim()) };
  } catch (error) {
    if (error instanceof UrlFault) return { fault: error.message };
    throw error;
  }
}

/** Formats a store URL for logs and error texts: hosts, ports, names and database, never a credential. */
export function describeStoreUrl(url: StoreUrl): string {
  const scheme = url.tls ? "rediss" : "redis";
  const database = url.database === 0 ? "" : `/${url.database}`;
  switch (url.kind) {
    case "single":
      if (url.address.host === undefined) return `unix://${url.address.path}`;
      return `${scheme}://${hostPortText(url.address)}${database}`;
    case "sentinel":
      return `${scheme}+sentinel://${url.sentinels.map(hostPortText).join(",")}/${url.masterName}${database}`;
    case "cluster":
      return `${scheme}+cluster://${url.nodes.map(hostPortText).join(",")}`;
  }
}

/** Formats an address as `host:port`, with an IPv6 host in brackets, or as the path of a socket. */
export function hostPortText(address: NodeAddress): string {
  if (address.host === undefined) return address.path;
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}

function parse(text: string): StoreUrl {
  const socket = /^unix:(?:\/\/(?:([^/]*)@)?)?(\/[^/].*)$/s.exec(text);
  if (socket !== null) {
    const access = { tls: false, ...credentials(socket[1]), database: 0 };
    return { kind: "single", address: { path: decode(socket[2]!, "the socket's path") }, ...access };
  }
  if (text.startsWith("unix:")) throw new UrlFault("a unix: URL needs an absolute path: unix:///path/to.sock");

  const scheme = /^redis(s?)(\+sentinel|\+cluster)?:\/\//.exec(text);
  if (!scheme) throw new UrlFault(`it has none of the known forms: ${FORMS}`);
  const tls = scheme[1] === "s";
  const rest = text.slice(scheme[0].length);
  // Hosts and names contain no @, so the last @ ends the credentials even if a password was not percent-encoded.
  const at = rest.lastIndexOf("@");
  const { username, password } = credentials(at === -1 ? undefined : rest.slice(0, at));
  const location = rest.slice(at + 1);
  if (/[?#]/.test(location)) throw new UrlFault("it takes no ?parameters and no #fragment");
  const [hosts = "", ...path] = location.replace(/\/$/, "").split("/");

  if (scheme[2] === "+sentinel") {
    const masterName = decode(path[0] ?? "", "the master's name");
    if (masterName === "")
      throw new UrlFault("a +sentinel URL needs the master's name: redis+sentinel://host:26379/name");
    const sentinels = hostPorts(hosts, 26379);
    return { kind: "sentinel", tls, username, password, database: databaseOf(path.slice(1)), sentinels, masterName };
  }
  const nodes = hostPorts(hosts, 6379);
  const database = databaseOf(path);
  if (scheme[2] === "+cluster") {
    if (database !== 0) throw new UrlFault("a cluster has database 0 only");
    return { kind: "cluster", tls, username, password, database, nodes };
  }
  if (nodes.length > 1) throw new UrlFault("several hosts need redis+sentinel:// or redis+cluster://");
  return { kind: "single", tls, username, password, database, address: nodes[0]! };
}

function credentials(text: string | undefined): { username: string | undefined; password: string | undefined } {
  if (text === undefined) return { username: undefined, password: undefined };
  const [, name, rest] = /^([^:]*)(?::(.*))?$/s.exec(text)!;
  const username = decode(name!, "the user name");
  if (rest === undefined && username === "") throw new UrlFault("credentials are user:password@, :password@ or user@");
  const password = rest === undefined ? undefined : decode(rest, "the password");
  if (password === "") throw new UrlFault("the password is empty");
  return { username: username === "" ? undefined : username, password };
}

function hostPorts(text: string, defaultPort: number): HostPort[] {
  return text.split(",").map((entry) => {
    const parts = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^[\]:]*))(?::(.*))?$/.exec(entry);
    const host = parts?.[1] ?? parts?.[2] ?? "";
    if (!parts || host === "") throw new UrlFault("a host is missing or not readable (IPv6 goes in brackets)");
    const port = parts[3] === undefined ? defaultPort : wholeNumber(parts[3]);
    if (port === undefined || port < 1 || port > 65535) throw new UrlFault("a port is not a number from 1 to 65535");
    return { host, port };
  });
}

function databaseOf(path: readonly string[]): number {
  if (path.length === 0) return 0;
  const database = path.length === 1 ? wholeNumber(path[0]!) : undefined;
  if (database === undefined) throw new UrlFault("what follows the last / is not the number of a database");
  return database;
}

function wholeNumber(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new UrlFault(`${what} holds a % that is not percent-encoding`);
  }
}
