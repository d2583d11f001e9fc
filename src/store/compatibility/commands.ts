// The commands that the service needs of a store: those of the scripts, read from their sources, and those that the code sends
// itself, which a test compares with the sources. Together they are the ACL rule of docs/stores.md.

import { assembleScript, parseUsers, readLua, SCRIPT_NAMES } from "../script_source.ts";
import type { StoreUrl } from "../connection/store_url.ts";

/** Sent by the code itself, with what fails without them. The last three depend on the store's topology. */
export const SENT_COMMANDS = {
  EVAL: "every operation is one atomic script",
  EVALSHA: "every operation is one atomic script",
  GET: "all validations would fail",
  INFO: "a failover could not be detected",
  MGET: "validations and watches would fail",
  PING: "there would be no connection",
  PTTL: "the store could not be checked",
  SMEMBERS: "ListSessions, CountSessions, ListTopUsers and EndSessions would fail",
  SUBSCRIBE: "invalidations would be late",
  TIME: "every operation would fail",
  WAIT: "calls that wait for replicas would fail",
  XRANGE: "watches could not catch up",
  ZSCAN: "ListSessions, CountSessions and EndSessions would fail",
  ASKING: "in a cluster, users whose slot is moved would have errors",
  "CLUSTER SLOTS": "in a cluster, there would be no connection",
  SELECT: "with a database other than 0, there would be no connection",
} as const;
type SentCommand = keyof typeof SENT_COMMANDS;

/** Sent where they are allowed; without them, INFO has to do. */
export const OPTIONAL_COMMANDS = ["CONFIG GET", "ROLE"] as const;

/** The commands that no script can call, so that they are checked in their own ways. */
const NOT_IN_SCRIPTS: ReadonlySet<string> = new Set<SentCommand>([
  "EVAL",
  "EVALSHA",
  "PING",
  "SUBSCRIBE",
  "WAIT",
  "ASKING",
  "CLUSTER SLOTS",
  "SELECT",
]);

const CALL = /\bredis\.p?call\(\s*'([A-Za-z]+)'/g;
const MOST_NAMED = 3;

/** Returns the commands of the scripts, each with the methods whose scripts call it, as a script's header names them. */
export function scriptCommands(): ReadonlyMap<string, ReadonlySet<string>> {
  const commands = new Map<string, Set<string>>();
  for (const name of SCRIPT_NAMES) {
    const methods = parseUsers(readLua(name)!);
    for (const { text } of assembleScript(name)) {
      for (const [, command] of text.matchAll(CALL)) {
        const users = commands.get(command!.toUpperCase()) ?? new Set();
        for (const method of methods) users.add(method);
        commands.set(command!.toUpperCase(), users);
      }
    }
  }
  return commands;
}

/** Returns the commands that a script can try out, in their order, each with what fails without it. */
export function commandsToTry(): ReadonlyMap<string, string> {
  const reasons = new Map<string, string>();
  for (const [command, methods] of scriptCommands()) reasons.set(command, `${namesText([...methods])} would fail`);
  for (const [command, breaks] of Object.entries(SENT_COMMANDS)) {
    if (!NOT_IN_SCRIPTS.has(command)) reasons.set(command, breaks);
  }
  return new Map([...reasons].toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

/** Returns the names of all commands that a store of that kind needs, or any kind, as an ACL rule writes them. */
export function aclCommands(url?: Pick<StoreUrl, "kind" | "database">): string[] {
  const unused: SentCommand[] = [];
  if (url !== undefined && url.kind !== "cluster") unused.push("ASKING", "CLUSTER SLOTS");
  if (url !== undefined && url.database === 0) unused.push("SELECT");
  const sent = Object.keys(SENT_COMMANDS).filter((command) => !(unused as string[]).includes(command));
  const all = new Set([...scriptCommands().keys(), ...sent]);
  return [...all].map((command) => command.toLowerCase().replace(" ", "|")).toSorted();
}

/** Returns the rules of `ACL SETUSER` that allow a user what the service needs, and nothing else. */
export function aclRules(url?: Pick<StoreUrl, "kind" | "database">): string {
  return ["~sa:*", "&sa:*", "-@all", ...aclCommands(url).map((command) => `+${command}`)].join(" ");
}

function namesText(names: readonly string[]): string {
  const shown = names.slice(0, MOST_NAMED);
  const others = names.length - shown.length;
  if (others > 0) return `${shown.join(", ")} and ${others} more ${others === 1 ? "method" : "methods"}`;
  return names.length < 2 ? shown.join() : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}
