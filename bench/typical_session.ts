// The session that the benches store: an address, a user agent of 120 bytes, 100 bytes of data, and a device where one is needed.

import { randomUUID } from "node:crypto";
import { DeviceType } from "../gen/session/v1/session_pb.ts";
import { encodeData, encodeIdentity, encodeLabels } from "../src/service/session_message.ts";

export const SESSION_TTL_MS = 86_400_000;

const IP_ADDRESS = "203.0.113.195";
const USER_AGENT =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.3595.53";
/** 100 bytes as JSON. */
const DATA = {
  locale: "de-CH",
  theme: "dark",
  cart: "c-1f3a9b52",
  roles: "editor,reviewer",
  returnTo: "/orders/open?x=1",
};

export function typicalLogin() {
  return { ipAddress: IP_ADDRESS, userAgent: USER_AGENT, data: DATA };
}

/** Returns segments of the record of a typical login. */
export function typicalSegments() {
  return {
    identity: encodeIdentity(typicalLogin(), undefined),
    labels: encodeLabels({ app: "shop" }),
    data: encodeData(DATA),
  };
}

export function typicalDevice() {
  return {
    deviceId: randomUUID(),
    name: "Ada's phone",
    type: DeviceType.MOBILE,
    os: "Android 16",
    browser: "Firefox 145",
    ipAddress: IP_ADDRESS,
    location: "Winterthur, Switzerland",
  };
}
