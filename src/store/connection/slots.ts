// The cluster slot of a key.

export const SLOT_COUNT = 16_384;

// All keys of a partition have the same hash tag, so this cache saves the checksum of nearly every command.
const slotsOfTags = new Map<string, number>();
const MAX_TAGS = 4_096;

/** Returns the slot of a key: of the text between its first braces, or of the whole key if there is none. */
export function slotOf(key: string): number {
  const open = key.indexOf("{");
  const close = open === -1 ? -1 : key.indexOf("}", open + 1);
  const hashed = close > open + 1 ? key.slice(open + 1, close) : key;
  let slot = slotsOfTags.get(hashed);
  if (slot === undefined) {
    slot = crc16(Buffer.from(hashed)) % SLOT_COUNT;
    if (slotsOfTags.size < MAX_TAGS) slotsOfTags.set(hashed, slot);
  }
  return slot;
}

/** CRC-16/XMODEM, as the cluster specification requires. */
function crc16(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}
