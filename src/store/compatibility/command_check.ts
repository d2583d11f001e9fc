// The check of commands: a script tries each command that sessions need on a temporary key, and reports what the store refuses to
// this user, or does not know. A refusal comes before a command looks at its arguments, so they need not make sense.

import { commandsToTry } from "./commands.ts";
import type { ProbeFailure, ProbeTools } from "./probe_tools.ts";

/** KEYS: a temporary key. ARGV: the commands. Returns each command that replies with an error, then its error. */
const TRY_COMMANDS = `
  local key, failed, unpack = KEYS[1], {}, unpack or table.unpack
  local function is_too_short(reply)
    return type(reply) == 'table' and reply.err and string.find(string.lower(reply.err), 'wrong number of arg') ~= nil
  end
  for _, command in ipairs(ARGV) do
    redis.pcall('SET', key, '', 'PX', 60000)
    local args, reply = {}, nil
    repeat
      reply = redis.pcall(command, unpack(args))
      args[#args + 1] = key
    until not is_too_short(reply) or #args > 8
    if type(reply) == 'table' and reply.err then
      failed[#failed + 1], failed[#failed + 2] = command, reply.err
    end
  end
  redis.pcall('DEL', key)
  redis.pcall('PEXPIREAT', key, 1)
  redis.pcall('SET', key, '', 'PX', 1)
  return failed`;

/** What an error says of the user or the store, by its text on Redis 7, Redis 8 and Valkey 8. Any other is about arguments. */
const FAULTS: readonly (readonly [error: RegExp, fault: string])[] = [
  [/can't run this command|no permissions to run/i, "the store's user may not call it (ACL)"],
  [
    /can't access at least one of the keys|permissions to access a key|one of the keys/i,
    "the store's user may not call it on keys that begin with sa: (ACL)",
  ],
  [
    /can't publish to|permissions to access a channel|one of the channels/i,
    "the store's user may not use channels that begin with sa: (ACL)",
  ],
  [/unknown (?:redis )?command/i, "the store does not know it"],
  [/not allowed from script/i, "the store does not allow it in scripts"],
  [/NOPERM/, "the store's user may not call it (ACL)"],
];

/** Resolves to a failure for each command that the store refuses or lacks. Rejects if the script cannot run. */
export async function checkCommands({ send, key }: ProbeTools): Promise<ProbeFailure[]> {
  const reasons = commandsToTry();
  const reply = await send("EVAL", TRY_COMMANDS, "1", key("commands"), ...reasons.keys());
  const texts = (Array.isArray(reply) ? reply : []).map(String);
  const failures: ProbeFailure[] = [];
  for (let i = 0; i < texts.length; i += 2) {
    const [command, error] = [texts[i]!, texts[i + 1]!];
    const fault = FAULTS.find(([pattern]) => pattern.test(error))?.[1];
    if (fault !== undefined) failures.push({ command, fault, breaks: reasons.get(command)! });
  }
  return failures;
}
