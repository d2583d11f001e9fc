// Loaded first in the process of every test file. node:test writes its events to a socket, and a forced exit would lose those
// that the socket had no room for: the writes therefore wait until there is room.

type Handle = { setBlocking?: (blocking: boolean) => number };

(process.stdout as { _handle?: Handle })._handle?.setBlocking?.(true);
