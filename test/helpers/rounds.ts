// How many rounds the tests run that repeat one thing many times: few before a commit, many in `npm run test:all`.

/**
 * Returns `quick`, or `all` if TEST_ALL=1 as in `npm run test:all`. The environment variable `variable`, if it is set,
 * takes the place of both.
 *
 * @throws if the variable is not a positive integer, since no round at all would pass.
 */
export function rounds({ quick, all, variable }: { quick: number; all: number; variable: string }): number {
  const text = process.env[variable];
  if (text === undefined) return process.env["TEST_ALL"] === "1" ? all : quick;
  if (!/^[1-9]\d*$/.test(text)) throw new Error(`${variable} must be a positive integer, not ${JSON.stringify(text)}`);
  return Number(text);
}
