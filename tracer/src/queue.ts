/**
 * Events that wait for the collector's word: in memory, and in storage once that is allowed.
 *
 * An event is stored under `chart:<owner>:<event_id>`. An owner is one page load, and holds the Web Lock `chart:<owner>:`
 * while it lives. Every other page waits for that lock, so the moment a page dies one of them gets it and with it the
 * events: nothing is copied, so nothing is doubled. Without Web Locks a page adopts what it finds when it starts.
 *
 * Belongs here: keeping, owning, counting out. Does not belong here: what an event says, or how it is sent.
 */
import { gone, locks } from "#platform";
import { lost } from "./config.js";
import { timeOf, uuidv7 } from "./ids.js";
import type { DropReason } from "./types.js";

const ID_LENGTH = 36;
const STORED = /^chart:.{73}$/;
const MOST_EVENTS = 1000;
// Keepalive requests and beacons of a page share 64 KB; the rest is for the envelope and what is under way.
const MOST_BYTES = 50_000;
const LONGEST_WAIT_MS = 7 * 86_400_000;

/** The JSON text of each event by the key that it has, or would have, in storage; oldest first. */
export const waiting = new Map<string, string>();

let store: Storage | undefined;
let owner: string;
let known: Set<string>;
let adopted: () => void;

const idOf = (key: string) => key.slice(-ID_LENGTH);

/** A page, or a page that came back, owns what it makes from now on. */
const begin = () => {
  owner = `chart:${uuidv7()}:`;
  known = new Set();
};

export const put = (key: string, text: string) => {
  waiting.set(key, text);
  try {
    store!.setItem(key, text);
  } catch {
    // no storage, or no room in it: memory has it
  }
};

export const add = (id: string, text: string) => {
  if (waiting.size < MOST_EVENTS) put(owner + id, text);
  else lost("queue_full", [id]);
};

/** Takes events out: delivered, or lost for `reason`. */
export const settle = (keys: Iterable<string>, reason?: DropReason | false) => {
  const gone = [...keys].filter((key) => {
    store?.removeItem(key);
    return waiting.delete(key);
  });
  if (reason && gone[0]) lost(reason, gone.map(idOf));
};

/** The keys of the next request, oldest first: `most` of them or fewer, none of `busy`, within the bytes of a request. */
export const take = (most: number, busy: string[]) => {
  const keys: string[] = [];
  let bytes = 0;
  for (const [key, text] of waiting)
    if (Date.now() - timeOf(idOf(key)) > LONGEST_WAIT_MS) settle([key], "expired");
    else if (!busy.includes(key)) {
      bytes += new Blob([text]).size;
      if (keys[0] && (bytes > MOST_BYTES || keys.length >= most)) break;
      keys.push(key);
    }
  return keys;
};

/** Become the heir of the owner `name`; at once if it is this page or dead. */
const watch = (name: string) => {
  if (known.has(name)) return;
  known.add(name);
  const adopt = () => {
    for (const key of Object.keys(store!)) if (key.startsWith(name)) waiting.set(key, store!.getItem(key)!);
    adopted();
    return gone();
  };
  if (locks) locks.request(name, adopt);
  else adopt();
};

/** `key` is in storage; perhaps it is another page's event. */
export const notice = (key: string) => {
  if (store && STORED.test(key)) watch(key.slice(0, -ID_LENGTH));
};

/** From now on events are stored, and those of dead pages adopted; `heir` is called after each adoption. */
export const open = (storage: Storage | undefined, heir: () => void) => {
  if (store || !storage) return;
  store = storage;
  adopted = heir;
  watch(owner);
  for (const [key, text] of waiting) put(key, text);
  Object.keys(store).forEach(notice);
};

/** Leaves what is stored to whoever comes next. The page may be frozen now, and must hold no lock. */
export const close = () => {
  for (const key of waiting.keys()) if (store?.getItem(key)) waiting.delete(key);
  store = undefined;
  begin();
};

begin();
