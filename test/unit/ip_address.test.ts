// canonicalIpAddress gives all spellings of an address the same text, and other addresses another.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { canonicalIpAddress } from "../../src/lib/ip_address.ts";

const SPELLINGS: Readonly<Record<string, readonly string[]>> = {
  "192.0.2.1": [
    "192.0.2.1",
    " 192.0.2.1\t",
    "192.0.2.1:80",
    "192.0.2.1:65535",
    "::ffff:192.0.2.1",
    "::FFFF:192.0.2.1",
    "::ffff:c000:201",
    "0:0:0:0:0:ffff:c000:0201",
    "0000:0000:0000:0000:0000:FFFF:192.0.2.1",
    "::ffff:192.0.2.1%eth0",
    "[::ffff:192.0.2.1]:443",
  ],
  "2001:db8::1": [
    "2001:db8::1",
    "2001:0db8:0:0:0:0:0:1",
    "2001:0DB8:0000:0000:0000:0000:0000:0001",
    "2001:db8:0:0::1",
    "2001:DB8::0.0.0.1",
    "[2001:db8::1]",
    "[2001:db8::1]:443",
    " [2001:DB8::1]:443 ",
    "2001:db8::1%eth0",
    "[2001:db8::1%eth0]:443",
  ],
  "fe80::1": ["fe80::1", "FE80::1%eth0", "fe80::1%2", "[fe80:0::0:1%en1]:8080"],
  "::": ["::", "0:0:0:0:0:0:0:0", "0::0", "[::]:0"],
};

const NO_ADDRESSES = [
  "",
  "unknown",
  "_hidden",
  "203.0.113.7, 10.0.0.1",
  "192.0.2.1 80",
  "192.0.2",
  "192.0.2.256",
  "192.0.2.01",
  "192.0.2.1:",
  "192.0.2.1:http",
  "192.0.2.1%eth0",
  "3221225985",
  "0xc0.0.2.1",
  "[2001:db8::1",
  "2001:db8::1]:443",
  "[2001:db8::1]443",
  "2001:db8:::1",
  "2001:db8::1::",
  "1:2:3:4:5:6:7:8:9",
  "2001:db8::g",
  "host.example:80",
  "a\u0000b",
];

for (const [address, spellings] of Object.entries(SPELLINGS)) {
  test(`${address} in all spellings`, () => {
    for (const spelling of spellings) assert.equal(canonicalIpAddress(spelling), address, spelling);
  });
}

test("text that is no address stays as it is, in lower case and without surrounding spaces", () => {
  for (const text of NO_ADDRESSES) {
    assert.equal(canonicalIpAddress(text), text);
    assert.equal(canonicalIpAddress(` ${text.toUpperCase()} `), text);
  }
});

const groups = fc.array(fc.oneof(fc.constant(0), fc.constant(0xffff), fc.nat(0xffff)), { minLength: 8, maxLength: 8 });

/** One spelling of the address of eight groups, with any zeros left out, case, dotted tail, zone, port and spaces. */
const spellingOf = (address: readonly number[]) =>
  fc
    .record({
      widths: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 8, maxLength: 8 }),
      isUpperCase: fc.boolean(),
      isDotted: fc.boolean(),
      compressed: fc.record({ from: fc.nat(7), count: fc.integer({ min: 0, max: 8 }) }),
      zone: fc.constantFrom("", "%eth0", "%7"),
      around: fc.constantFrom(["", ""], ["[", "]"], ["[", "]:443"], [" ", "\t"]),
    })
    .map(({ widths, isUpperCase, isDotted, compressed, zone, around }) => {
      const texts = address.map((group, at) => group.toString(16).padStart(widths[at]!, "0"));
      if (isDotted) {
        const tail = [address[6]! >> 8, address[6]! & 255, address[7]! >> 8, address[7]! & 255].join(".");
        texts.splice(6, 2, tail);
      }
      let text = texts.join(":");
      const { from, count } = compressed;
      const end = from + count;
      const isCompressible = count > 0 && end <= (isDotted ? 6 : 8) && address.slice(from, end).every((g) => g === 0);
      if (isCompressible) text = `${texts.slice(0, from).join(":")}::${texts.slice(end).join(":")}`;
      return around[0] + (isUpperCase ? text.toUpperCase() : text) + zone + around[1];
    });

test("two spellings of a random IPv6 address are equal", () => {
  const twoSpellings = groups.chain((address) => fc.tuple(spellingOf(address), spellingOf(address)));
  fc.assert(
    fc.property(twoSpellings, ([one, other]) => {
      assert.equal(canonicalIpAddress(one), canonicalIpAddress(other));
    }),
    { numRuns: 5000 },
  );
});

test("two random IPv6 addresses are different", () => {
  const nearby = groups.chain((address) =>
    fc.record({ at: fc.nat(7), bit: fc.nat(15) }).map(({ at, bit }) => {
      return [address, address.with(at, address[at]! ^ (1 << bit))] as const;
    }),
  );
  fc.assert(
    fc.property(
      nearby.chain(([one, other]) => fc.tuple(spellingOf(one), spellingOf(other))),
      ([one, other]) => {
        assert.notEqual(canonicalIpAddress(one), canonicalIpAddress(other));
      },
    ),
    { numRuns: 5000 },
  );
});
