// The error replies of stores: what was seen with each engine, and what the service makes of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { StoreReplyError } from "../../src/store/connection/errors.ts";

const REFUSALS_IN_SCRIPTS = {
  "Redis 7": [
    "ERR The user executing the script can't run this command or subcommand script: 6f, on @user_script:1.",
    "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
    "ERR The user executing the script can't publish to the channel mentioned in the command",
  ],
  "Redis 8 and Valkey 8": [
    "ERR ACL failure in script: User u has no permissions to run the 'rpush' command script: 6f, on @user_script:1.",
    "ERR ACL failure in script: No permissions to access a key",
    "ERR ACL failure in script: No permissions to access a channel",
  ],
};

for (const [engine, replies] of Object.entries(REFUSALS_IN_SCRIPTS)) {
  test(`a right that is missing in a script is recognized: ${engine}`, () => {
    for (const reply of replies) assert.equal(new StoreReplyError(reply).code, "NOPERM", reply);
  });
}
