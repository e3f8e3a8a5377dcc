/**
 * Event ids: UUIDv7, whose first 48 bits are the time of creation.
 *
 * Belongs here: minting ids and reading their time. Does not belong here: who gets one.
 */

// `crypto.randomUUID` is missing in insecure contexts, this is not.
const randomDigit = () => (crypto.getRandomValues(new Uint8Array(1))[0]! & 15).toString(16);

/** A UUIDv7 of the instant `ms` (epoch milliseconds), by default now. Its 12 hex digits begin with 0 until the year 2527. */
export const uuidv7 = (ms = Date.now()): string =>
  `0${ms.toString(16)}`.replace(/.{8}/, "$&-") + "-7xxx-8xxx-xxxxxxxxxxxx".replace(/x/g, randomDigit);

/** When a UUIDv7 was minted, epoch milliseconds. */
export const timeOf = (id: string): number => parseInt(id.replace("-", ""), 16);
