// gRPC over plain HTTP/2: full control of headers, and little work for each message, for thousands of watchers.

import { connect, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { create, toBinary, type DescMethod, type MessageInitShape } from "@bufbuild/protobuf";
import { WatchInvalidationsRequestSchema } from "../../gen/session/v1/watch_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";

/** Larger than anything that is queued, so that no stream waits for its window. */
const WINDOW_BYTES = 8 * 2 ** 20;

/** Opens a connection for many streams. */
export function connectRaw(address: string): Promise<ClientHttp2Session> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://${address}`, { settings: { initialWindowSize: WINDOW_BYTES, enablePush: false } });
    session.once("error", reject);
    session.once("remoteSettings", () => {
      session.setLocalWindowSize(WINDOW_BYTES);
      session.off("error", reject);
      session.on("error", () => undefined);
      resolve(session);
    });
  });
}

export type RawStream = {
  /** Resolves when the stream has ended, for whatever reason. */
  readonly closed: Promise<void>;
  /** Cancels the stream; resolves when it has ended. */
  close(): Promise<void>;
};

/** Opens a watch; `onMessage` receives each message as encoded bytes. */
export function openWatch(
  session: ClientHttp2Session,
  request: MessageInitShape<typeof WatchInvalidationsRequestSchema>,
  onMessage: (bytes: Buffer) => void,
): RawStream {
  const stream = openRpc(session, SessionService.method.watchInvalidations);
  stream.end(grpcFrame(toBinary(WatchInvalidationsRequestSchema, create(WatchInvalidationsRequestSchema, request))));
  stream.on("error", () => undefined);
  onMessages(stream, (messages) => {
    for (const message of messages) onMessage(message);
  });
  const closed = new Promise<void>((resolve) => stream.once("close", () => resolve()));
  return {
    closed,
    close() {
      // CANCEL
      stream.close(8);
      return closed;
    },
  };
}

/** Opens a gRPC call by sending its headers only. */
export function openRpc(
  session: ClientHttp2Session,
  method: DescMethod,
  headers: Readonly<Record<string, string>> = {},
): ClientHttp2Stream {
  return session.request({
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
}

/** Calls the listener with the messages that arrive together, at least one. */
export function onMessages(stream: ClientHttp2Stream, listener: (messages: Buffer[]) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const messages: Buffer[] = [];
    while (rest.length >= 5) {
      const end = 5 + rest.readUInt32BE(1);
      if (rest.length < end) break;
      messages.push(rest.subarray(5, end));
      rest = rest.subarray(end);
    }
    if (messages.length > 0) listener(messages);
  });
}

/** Puts a message into a gRPC frame. */
export function grpcFrame(message: Uint8Array): Buffer {
  const bytes = Buffer.alloc(5 + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, 5);
  return bytes;
}
