// Field names and values that break naive code: separators, special members, control characters, wide characters.

import fc from "fast-check";

export const name = fc.oneof(
  fc.constantFrom("a", "b", "n", "__proto__", "constructor", "toString", "x:y", "{tag}", "%00", "\u0000", "é\u{1F600}"),
  fc.string({ unit: "binary", minLength: 1, maxLength: 8 }),
);
const text = fc.oneof(
  fc.constantFrom("", "0", "41", "-7", "9223372036854775807", "007", "1.5"),
  fc.string({ unit: "binary" }),
);
export const fields = fc.dictionary(name, text, { maxKeys: 5, noNullPrototype: true });
export const delta = fc.oneof(
  fc.bigInt({ min: -5n, max: 5n }),
  fc.constantFrom(2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n),
);
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.constant(null),
    fc.boolean(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: "binary" }),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(name, tie("value"), { maxKeys: 3, noNullPrototype: true }),
  ),
})).value;
export const data = fc.option(fc.dictionary(name, json, { maxKeys: 4, noNullPrototype: true }), { nil: undefined });
export const version = fc.oneof(fc.constant(0), fc.constant(-1), fc.integer({ min: 1, max: 4 }));
