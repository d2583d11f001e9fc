// The address of a listener.

/** A TCP address (port 0 takes any free port) or the path of a Unix socket. */
export type ListenAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** Formats an address as gRPC clients and the SA_* variables do: `host:port` or `unix:/path`. */
export function listenAddressText(address: ListenAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}
