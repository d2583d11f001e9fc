// Steps that create a session of any variant, with and without a limit, a request id and the time of the login.

import fc from "fast-check";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { DeviceType, LimitPer, OnExceed, type Session } from "../../gen/session/v1/session_pb.ts";
import type { AuthorityClient } from "../helpers/grpc_client.ts";
import { DAY_MS, LIMIT_LABEL, type Data, type Kind } from "./sessions_model_values.ts";
import { outcomeOf, sometimes, stepOf, two, userOrNone, type Run } from "./steps_run.ts";
import { data, fields } from "./steps_values.ts";

type Options = {
  readonly user: number;
  readonly kind: Kind;
  readonly data: Data;
  readonly fields: Record<string, string>;
  readonly device: number | undefined;
  readonly deviceType: DeviceType;
  readonly labels: Record<string, string>;
  readonly requestId: string;
  readonly idleMs: number;
  readonly limit: { readonly max: number; readonly evict: boolean; readonly per: LimitPer } | undefined;
  /** How many steps ago the login began. */
  readonly loginAgo: number | undefined;
};

export const limit = fc.record({
  max: fc.integer({ min: 1, max: 4 }),
  evict: fc.boolean(),
  per: fc.constantFrom(LimitPer.UNSPECIFIED, LimitPer.DEVICE_TYPE, LimitPer.LABEL),
});

export const app = fc.constantFrom("web", "shop");
export const labels = fc.record({ [LIMIT_LABEL]: app, sid: fc.string({ maxLength: 20 }) }, { noNullPrototype: true });

const options: fc.Arbitrary<Options> = fc.record({
  user: userOrNone,
  kind: fc.constantFrom<Kind>("simple", "hash", "secure", "secure", "device", "device"),
  data,
  fields,
  device: sometimes(2, two),
  deviceType: fc.constantFrom(DeviceType.MOBILE, DeviceType.DESKTOP, DeviceType.UNKNOWN),
  labels,
  requestId: fc.oneof({ weight: 3, arbitrary: fc.constant("") }, fc.constantFrom("r1", "r2")),
  // Different ones, so that the session accessed first is not always the first to expire.
  idleMs: fc.constantFrom(DAY_MS, DAY_MS, 2 * DAY_MS, DAY_MS / 24),
  limit: sometimes(3, limit),
  loginAgo: sometimes(3, fc.nat(6)),
});

export const createSteps = stepOf("create", options, async (run, o) => {
  const step = Math.max(0, run.model.step - (o.loginAgo ?? 0));
  const authenticated = o.loginAgo === undefined ? undefined : step;
  const { kind, idleMs, data, fields, labels } = o;
  const userId = run.user(o.user);
  // An anonymous session has no limit.
  const limit = userId === "" ? undefined : o.limit;
  const needsDevice = kind === "device" || limit?.per === LimitPer.DEVICE_TYPE;
  const device = o.device ?? (needsDevice ? 0 : undefined);
  const login = {
    ...{ userId, secret: run.nextSecret, requestId: run.requestId(o.requestId) },
    ...{ kind, idleMs, data, fields, labels, limit, authenticated },
    device: device === undefined ? "" : run.device(device),
    deviceType: device === undefined ? DeviceType.UNSPECIFIED : o.deviceType,
  };
  const actual = await outcomeOf(send(run.client, run, login));
  const id = "value" in actual ? actual.value.session.sessionId : "";
  const expected = run.model.create(id, login);
  run.assertSame("value" in actual ? { value: actual.value.session } : actual, expected);
  if ("value" in actual) run.noteSession(actual.value.session, actual.value.token);
});

/** Returns a limit as a request has it. */
export function limitMessage({ max, evict, per }: NonNullable<Options["limit"]>) {
  const onExceed = evict ? OnExceed.EVICT_OLDEST : OnExceed.REJECT;
  return { maxSessions: max, onExceed, per, labelKey: per === LimitPer.LABEL ? LIMIT_LABEL : "" };
}

type Login = Parameters<Run["model"]["create"]>[1];

async function send(client: AuthorityClient, run: Run, login: Login): Promise<{ session: Session; token: string }> {
  const { userId, requestId, device: deviceId, deviceType: type, limit, fields, labels } = login;
  const request = {
    ...{ userId, requestId, idleTimeout: durationFromMs(login.idleMs), data: login.data as never, fields, labels },
    ...(deviceId !== "" && { device: { deviceId, type } }),
    ...(limit && { limit: limitMessage(limit) }),
    ...(login.authenticated !== undefined && { authentication: { time: run.instant(login.authenticated) } }),
  };
  switch (login.kind) {
    case "simple":
      return { session: (await client.createSession(request)).session!, token: "" };
    case "hash":
      return { session: (await client.createHashSession(request)).session!, token: "" };
    case "device":
      return { session: (await client.createDeviceSession(request)).session!, token: "" };
    case "secure": {
      const { session, token } = await client.createSecureSession(request);
      return { session: session!, token };
    }
  }
}
