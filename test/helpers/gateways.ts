// Gateways in front of the service, as real processes: nginx and HAProxy.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** The addresses of the ports that a gateway forwards to. */
export type Upstreams = { readonly grpc: string; readonly http: string };

export type Gateway = {
  /** HTTP/2 without TLS, forwarded over HTTP/2 to the gRPC port. */
  readonly grpc: string;
  /** The same, to the HTTP port. */
  readonly http2: string;
  /** HTTP/1.1, forwarded over HTTP/1.1 to the HTTP port. */
  readonly http1: string;
  stop(): Promise<void>;
};

type Ports = { readonly grpc: number; readonly http2: number; readonly http1: number };
type GatewayKind = { readonly program: string; config(upstreams: Upstreams, ports: Ports, directory: string): string };

export const GATEWAYS: Readonly<Record<"nginx" | "haproxy", GatewayKind>> = {
  nginx: {
    program: "nginx",
    config: ({ grpc, http }, ports, directory) => `
      daemon off; master_process off; pid ${directory}/pid; error_log stderr;
      events {}
      http {
        access_log off; client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
        fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
        grpc_read_timeout 1h; grpc_send_timeout 1h; client_body_timeout 1h; grpc_socket_keepalive on;
        http2_max_concurrent_streams 1024; keepalive_requests 1000000;
        server { listen 127.0.0.1:${ports.grpc} http2; location / { grpc_pass grpc://${grpc}; } }
        server { listen 127.0.0.1:${ports.http2} http2; location / { grpc_pass grpc://${http}; } }
        server { listen 127.0.0.1:${ports.http1}; location / { proxy_pass http://${http}; proxy_http_version 1.1; } }
      }`,
  },
  haproxy: {
    program: "haproxy",
    config: ({ grpc, http }, ports) => `
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen grpc
  bind 127.0.0.1:${ports.grpc} proto h2
  server s ${grpc} proto h2
listen http2
  bind 127.0.0.1:${ports.http2} proto h2
  server s ${http} proto h2
listen http1
  bind 127.0.0.1:${ports.http1}
  server s ${http}
`,
  },
};

/** Returns why the tests of a gateway have to be skipped, or false. */
export function gatewayMissing({ program }: GatewayKind): string | false {
  return programPath(program) === undefined ? `${program} is not installed` : false;
}

/** Starts a gateway; resolves when it accepts connections. */
export async function startGateway(kind: GatewayKind, upstreams: Upstreams): Promise<Gateway> {
  const directory = mkdtempSync(join(tmpdir(), "sa-gateway-"));
  const [grpc, http2, http1] = await freePorts();
  const ports = { grpc, http2, http1 };
  const configFile = join(directory, "gateway.conf");
  writeFileSync(configFile, kind.config(upstreams, ports, directory));
  const args = kind.program === "nginx" ? ["-p", directory, "-c", configFile] : ["-f", configFile];
  const child = spawn(programPath(kind.program)!, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const exited = once(child, "exit");
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  for (const port of Object.values(ports)) {
    while (!(await accepts(port))) {
      if (child.exitCode !== null) throw new Error(`${kind.program} ended: ${output}`);
      await sleep(10);
    }
  }
  return {
    grpc: `127.0.0.1:${grpc}`,
    http2: `127.0.0.1:${http2}`,
    http1: `http://127.0.0.1:${http1}`,
    async stop() {
      kill();
      await exited;
      process.off("exit", kill);
      rmSync(directory, { recursive: true });
    },
  };
}

// Debian installs servers in a folder that is not on every PATH.
function programPath(program: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin"];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

async function freePorts(): Promise<[number, number, number]> {
  const servers = [createServer(), createServer(), createServer()];
  await Promise.all(servers.map((server) => once(server.listen(0, "127.0.0.1"), "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports as [number, number, number];
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  const connected = await once(socket, "connect").then(
    () => true,
    () => false,
  );
  socket.destroy();
  return connected;
}
