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
/** What a lock that this page holds, or asked for, is for. */
let held: Record<string, () => void>;
let adopted: () => void;

const idOf = (key: string) => key.slice(-ID_LENGTH);

/** A page, or a page that came back, owns what it makes from now on. */
const begin = () => {
  owner = `chart:${uuidv7()}:`;
  held = {};
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

/** Only an event that has its visitor begins with `{"user"`, and so comes after this; one that has not begins with its type. */
export const STAMPED = '{"u';

/** The keys of the next request, oldest first: `most` stamped ones or fewer, none of `busy`, within the bytes of a request. */
export const take = (most: number, busy: string[]) => {
  const keys: string[] = [];
  let bytes = 0;
  for (const [key, text] of waiting)
    if (Date.now() - timeOf(idOf(key)) > LONGEST_WAIT_MS) settle([key], "expired");
    else if (!busy.includes(key) && text > STAMPED) {
      bytes += new Blob([text]).size;
      if (keys[0] && (bytes > MOST_BYTES || keys.length >= most)) break;
      keys.push(key);
    }
  return keys;
};

/** Does `act` once this page holds the lock `name`, and again at each later call. */
const hold = (name: string, act: () => void) => {
  const granted = () => {
    (held[name] = act)();
    return gone();
  };
  if (held[name]) held[name]();
  else {
    held[name] = () => {}; // asked for
    if (locks) locks.request(name, granted);
    else granted();
  }
};

/** `key` is in storage: if it is an event, this page is the heir of its owner. */
export const notice = (key: string) => {
  const name = key.slice(0, -ID_LENGTH);
  if (store && name != owner && STORED.test(key))
    hold(name, () => {
      // A page sees what another wrote some time after it got the other's lock, hence looks again at each notice.
      for (const found of Object.keys(store || {})) if (found.startsWith(name)) waiting.set(found, store!.getItem(found)!);
      adopted();
    });
};

/** From now on events are stored, and those of dead pages adopted; `heir` is called after each adoption. */
export const open = (storage: Storage | undefined, heir: () => void) => {
  const name = owner;
  adopted = heir;
  if (storage && !store)
    // Stored sooner, an event could be adopted from under its living owner.
    hold(name, () => {
      if (name != owner) return;
      store = storage;
      for (const [key, text] of waiting) put(key, text);
      Object.keys(store).forEach(notice);
    });
};

/** Leaves what is stored to whoever comes next. The page may be frozen now, and must hold no lock. */
export const close = () => {
  for (const key of waiting.keys()) if (store?.getItem(key)) waiting.delete(key);
  store = undefined;
  begin();
};

begin();
