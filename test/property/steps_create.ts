// Steps that create a session of any variant, with and without a limit, a request id and the time of the login.

import fc from "fast-check";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { OnExceed, type Session } from "../../gen/session/v1/session_pb.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import type { Data, Kind } from "./sessions_model_values.ts";
import { DAY_MS, outcomeOf, sometimes, stepOf, two, type Run } from "./steps_run.ts";
import { data, fields } from "./steps_values.ts";

type Options = {
  readonly user: number;
  readonly kind: Kind;
  readonly data: Data;
  readonly fields: Record<string, string>;
  readonly device: number;
  readonly requestId: string;
  readonly idleMs: number;
  readonly limit: { readonly max: number; readonly evict: boolean } | undefined;
  /** How many steps ago the login began. */
  readonly loginAgo: number | undefined;
};

const options: fc.Arbitrary<Options> = fc.record({
  user: two,
  kind: fc.constantFrom<Kind>("simple", "hash", "secure", "secure", "device", "device"),
  data,
  fields,
  device: two,
  requestId: fc.oneof({ weight: 3, arbitrary: fc.constant("") }, fc.constantFrom("r1", "r2")),
  // Different ones, so that the session accessed first is not always the first to expire.
  idleMs: fc.constantFrom(DAY_MS, DAY_MS, 2 * DAY_MS, DAY_MS / 24),
  limit: sometimes(3, fc.record({ max: fc.integer({ min: 1, max: 4 }), evict: fc.boolean() })),
  loginAgo: sometimes(3, fc.nat(6)),
});

export const createSteps = stepOf("create", options, async (run, o) => {
  const step = Math.max(0, run.model.step - (o.loginAgo ?? 0));
  const authenticated = o.loginAgo === undefined ? undefined : step;
  const { kind, requestId, idleMs, limit } = o;
  const login = {
    userId: run.user(o.user),
    ...{ kind, requestId, idleMs, limit, authenticated },
    data: kind === "hash" ? undefined : o.data,
    fields: kind === "hash" ? o.fields : {},
    device: kind === "device" ? run.device(o.device) : "",
    secret: run.nextSecret,
  };
  const actual = await outcomeOf(send(run.client, run, login));
  const id = "value" in actual ? actual.value.session.sessionId : "";
  const expected = run.model.create(id, login);
  run.assertSame("value" in actual ? { value: actual.value.session } : actual, expected);
  if ("value" in actual) run.noteSession(actual.value.session, actual.value.token);
});

type Login = Parameters<Run["model"]["create"]>[1];

async function send(client: AuthorityClient, run: Run, login: Login): Promise<{ session: Session; token: string }> {
  const { userId, requestId, device: deviceId, limit } = login;
  const onExceed = limit?.evict ? OnExceed.EVICT_OLDEST : OnExceed.REJECT;
  const common = {
    ...{ userId, requestId, idleTimeout: durationFromMs(login.idleMs) },
    ...(limit && { limit: { maxSessions: limit.max, onExceed } }),
    ...(login.authenticated !== undefined && { authenticatedAt: run.instant(login.authenticated) }),
  };
  const request = { ...common, data: login.data as never };
  switch (login.kind) {
    case "simple":
      return { session: (await client.createSession(request)).session!, token: "" };
    case "hash":
      return { session: (await client.createHashSession({ ...common, fields: login.fields })).session!, token: "" };
    case "device":
      return { session: (await client.createDeviceSession({ ...request, device: { deviceId } })).session!, token: "" };
    case "secure": {
      const { session, token } = await client.createSecureSession(request);
      return { session: session!, token };
    }
  }
}
