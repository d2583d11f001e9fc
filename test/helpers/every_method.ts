// Calls every method of the service, so that each script runs, in its common ways.

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WatchWithLeaseRequestSchema } from "../../gen/session/v1/watch_pb.ts";
import { createClient, type Client } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { OnExceed } from "../../gen/session/v1/session_pb.ts";
import { SessionService } from "../../gen/session/v1/session_service_pb.ts";

/** Calls every method at the gRPC address. Returns the names of the methods that responded. @throws ConnectError of a call that failed. */
export async function callEveryMethod(address: string): Promise<Set<string>> {
  const transport = createGrpcTransport({ baseUrl: `http://${address}` });
  const called = new Set<string>();
  const client = new Proxy(createClient(SessionService, transport), {
    get(target, method: keyof Client<typeof SessionService>) {
      called.add(SessionService.method[method].name);
      return target[method];
    },
  });
  const watching = new AbortController();
  const watch = client.watchInvalidations({}, { signal: watching.signal })[Symbol.asyncIterator]();
  const opened = (await watch.next()).value!.event;
  if (opened.case !== "opened") throw new Error("the watch did not open");
  await renewLease(client);
  await callSessionMethods(client);
  await callTokenMethods(client);
  await callAdminMethods(client);
  for (let message = await watch.next(); message.value?.event.case !== "invalidation";) message = await watch.next();
  watching.abort();
  return called;
}

type ServiceClient = Client<typeof SessionService>;

/** Opens a watch with a lease, and renews it once. */
async function renewLease(client: ServiceClient): Promise<void> {
  const renewed = new AbortController();
  async function* requests(): AsyncGenerator<MessageInitShape<typeof WatchWithLeaseRequestSchema>> {
    yield { request: { case: "open", value: {} } };
    yield { request: { case: "renewal", value: { nonce: "n" } } };
  }
  for await (const { event } of client.watchWithLease(requests(), { signal: renewed.signal })) {
    if (event.case === "checkpoint" && event.value.nonce === "n") break;
  }
  renewed.abort();
}

async function callSessionMethods(client: ServiceClient): Promise<void> {
  const device = { deviceId: "d", name: "laptop" };
  const limit = { maxSessions: 3, onExceed: OnExceed.EVICT_OLDEST };
  const created = await client.createSession({
    userId: "u",
    data: { a: 1 },
    requestId: "r",
    ipBinding: 2,
    ipAddress: "10.0.0.1",
  });
  const { sessionId } = created.session!;
  await client.getSession({ sessionId, ipAddress: "10.9.9.9" });
  await client.validateSession({ sessionId, touch: true });
  await client.updateSessionData({ sessionId, data: { b: 2 }, merge: true });
  await client.updateSession({ sessionId, labels: { team: "x" }, updateMask: { paths: ["labels"] } });
  await client.recordAuthentication({ sessionId, authentication: { level: 2 } });
  await client.listUserSessions({ userId: "u" });
  const hash = (await client.createHashSession({ userId: "u", fields: { f: "1" }, limit })).session!.sessionId;
  await client.setSessionFields({ sessionId: hash, fields: { g: "2" } });
  await client.incrementSessionField({ sessionId: hash, field: "f", delta: 1n });
  await client.getSessionField({ sessionId: hash, field: "f" });
  await client.getSessionFields({ sessionId: hash });
  for (let i = 0; i < 4; i++) await client.createDeviceSession({ userId: "u", device, data: {}, limit });
  await client.getDeviceSession({ userId: "u", deviceId: "d" });
  await client.getDeviceSession({ deviceId: "d" });
  await client.listUserDevices({ userId: "u" });
  await client.revokeDevice({ userId: "u", deviceId: "d" });
  const anonymous = (await client.createSession({ data: { cart: 1 } })).session!.sessionId;
  await client.regenerateSession({ sessionId: anonymous, userId: "u" });
  const fresh = (await client.createSession({ userId: "u" })).session!.sessionId;
  const regenerated = await client.regenerateSession({ sessionId: fresh, grace: { seconds: 5n } });
  await client.invalidateSession({ sessionId: regenerated.session!.sessionId, note: "why" });
  await client.deleteSession({ sessionId });
  await client.explainSession({ sessionId });
  await client.listAuditEvents({ userId: "u" });
  await client.deleteUserSessions({ userId: "u" });
}

async function callTokenMethods(client: ServiceClient): Promise<void> {
  const { token, session } = await client.createSecureSession({ userId: "v", fields: { f: "1" } });
  const rotated = await client.rotateToken({ token, requestId: "rotate" });
  await client.validateToken({ token });
  await client.validateToken({ token: rotated.token, touch: true });
  const entries = [token, rotated.token].map((value) => ({ handle: { case: "token" as const, value } }));
  await client.batchValidate({ entries });
  const requests = async function* () {
    yield { entries: [{ handle: { case: "sessionId" as const, value: session!.sessionId } }] };
  };
  for await (const _ of client.validateStream(requests())) break;
  await client.revokeToken({ token: rotated.token });
}

async function callAdminMethods(client: ServiceClient): Promise<void> {
  for (let i = 0; i < 3; i++) await client.createSession({ userId: `w${i}`, labels: { team: "x" } });
  await client.listSessions({});
  await client.countSessions({});
  await client.listSessions({ filter: { labels: { team: "x" } } });
  await client.listTopUsers({});
  await client.getServerTime({});
  for await (const _ of client.endSessions({ filter: { labels: { team: "x" } } }));
}
