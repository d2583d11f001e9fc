// SA_STORE_URL: which forms are accepted and refused, and that no text repeats a password.

import assert from "node:assert/strict";
import { test } from "node:test";
import { describeStoreUrl, parseStoreUrl } from "../../src/store/connection/store_url.ts";

const NO_CREDENTIALS = { tls: false, username: undefined, password: undefined, database: 0 };

const UNDERSTOOD: readonly [text: string, expected: object, description: string][] = [
  [
    "redis://127.0.0.1",
    { kind: "single", ...NO_CREDENTIALS, address: { host: "127.0.0.1", port: 6379 } },
    "redis://127.0.0.1:6379",
  ],
  [
    "rediss://ann:p%40ss@store.example:6390/3",
    {
      kind: "single",
      tls: true,
      username: "ann",
      password: "p@ss",
      database: 3,
      address: { host: "store.example", port: 6390 },
    },
    "rediss://store.example:6390/3",
  ],
  [
    "redis://:a/b@c:d@[::1]:7000/",
    { kind: "single", ...NO_CREDENTIALS, password: "a/b@c:d", address: { host: "::1", port: 7000 } },
    "redis://[::1]:7000",
  ],
  [
    "unix:///run/store.sock",
    { kind: "single", ...NO_CREDENTIALS, address: { path: "/run/store.sock" } },
    "unix:///run/store.sock",
  ],
  [
    "unix://ann:p%2Fss@/run/st@re.sock",
    {
      kind: "single",
      ...NO_CREDENTIALS,
      username: "ann",
      password: "p/ss",
      address: { path: "/run/st@re.sock" },
    },
    "unix:///run/st@re.sock",
  ],
  [
    "redis://ann@host",
    { kind: "single", ...NO_CREDENTIALS, username: "ann", address: { host: "host", port: 6379 } },
    "redis://host:6379",
  ],
  [
    "unix:/run/store.sock",
    { kind: "single", ...NO_CREDENTIALS, address: { path: "/run/store.sock" } },
    "unix:///run/store.sock",
  ],
  [
    "redis+sentinel://u:p@h1,h2:26380/main/2",
    {
      kind: "sentinel",
      tls: false,
      username: "u",
      password: "p",
      database: 2,
      sentinels: [
        { host: "h1", port: 26379 },
        { host: "h2", port: 26380 },
      ],
      masterName: "main",
    },
    "redis+sentinel://h1:26379,h2:26380/main/2",
  ],
  [
    "redis+cluster://h1:7001,h2",
    {
      kind: "cluster",
      ...NO_CREDENTIALS,
      nodes: [
        { host: "h1", port: 7001 },
        { host: "h2", port: 6379 },
      ],
    },
    "redis+cluster://h1:7001,h2:6379",
  ],
];

for (const [text, expected, description] of UNDERSTOOD) {
  test(`accepts ${text}`, () => {
    const { url, fault } = parseStoreUrl(text);
    assert.equal(fault, undefined);
    assert.deepEqual(url, expected);
    assert.equal(describeStoreUrl(url!), description);
  });
}

const REFUSED: readonly [text: string, reason: RegExp][] = [
  ["", /known forms/],
  ["http://host", /known forms/],
  ["hunter2", /known forms/],
  ["redis://", /host is missing/],
  ["redis://:hunter2@", /host is missing/],
  ["redis://host:0", /port/],
  ["redis://host:65536", /port/],
  ["redis://host:hunter2", /port/],
  ["redis://host/hunter2", /database/],
  ["redis://host/1/2", /database/],
  ["redis://@host", /credentials/],
  ["unix://ann:@/run/store.sock", /password is empty/],
  ["unix://:%hunter2@/run/store.sock", /percent-encoding/],
  ["unix://hunter2/run/store.sock", /absolute path/],
  ["redis://ann:@host", /password is empty/],
  ["redis://:%hunter2@host", /percent-encoding/],
  ["redis://:hunter2@host?timeout=1", /parameters/],
  ["redis://h1,h2", /sentinel/],
  ["redis+sentinel://h1:26379", /master's name/],
  ["redis+cluster://:hunter2@h1/1", /database 0/],
  ["unix://relative.sock", /absolute path/],
];

for (const [text, reason] of REFUSED) {
  test(`refuses ${JSON.stringify(text)} without repeating it`, () => {
    const { url, fault } = parseStoreUrl(text);
    assert.equal(url, undefined);
    assert.match(fault!, reason);
    assert.ok(!fault!.includes("hunter2"), fault);
  });
}
