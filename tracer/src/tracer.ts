/**
 * The tracer itself: makes events, gives them a visit, and sends them until the collector has spoken about each.
 *
 * Belongs here: what browsers, webviews and Node share. Does not belong here: the DOM (`page.ts`, `autocapture.ts`).
 */
import { beacon, context, decided, denied, locks, storageOf, visits } from "#platform";
import { config, lost } from "./config.js";
import { SCHEMA_VERSION, type ChartEvent } from "./event.js";
import { timeOf, uuidv7 } from "./ids.js";
import { add, close, notice, open, put, settle, STAMPED, take, waiting } from "./queue.js";
import { advance, type Session } from "./session.js";
import { campaignOf, cleanUrl, toJson } from "./text.js";
import { backoff, envelope, fateOf, retryAfter } from "./transport.js";
import type { Campaign, Config, Consent, EventType, Interaction, Link, Payload } from "./types.js";

declare const SDK_VERSION: string;

const SESSION = "chart:session";
const CONSENT = "chart:consent";
// A tab that gets a lock may still read what storage had before; Web Locks and storage are not ordered.
const SEEN_BY_ALL_MS = 200;

let storage: Storage | undefined;
let choice: Consent | undefined;
let user: string | null = null;
let pageView: string | undefined;
let campaign: Campaign | undefined;
let latest: ChartEvent | undefined; // stamped by this page
let session: Session | undefined; // the truth only where storage is denied
let timer: ReturnType<typeof setTimeout> | undefined;
let sending: Promise<void> | undefined;
let busy: string[] = [];
let most = Infinity;
let failures = 0;
let resting = 0; // ms, as the collector asked

const read = <T>(key: string): T | null | undefined => {
  try {
    return JSON.parse(storage!.getItem(key)!);
  } catch {
    return; // denied, or not ours
  }
};

const write = (key: string, value: unknown) => {
  try {
    storage!.setItem(key, toJson(value));
  } catch {
    // denied or full: memory has it
  }
};

/** Gives each new event its visitor, visit and number. Returns when other tabs can be trusted to see that, too. */
const stamp = () => {
  const before = session;
  for (const [key, text] of waiting)
    if (choice?.analytics && text < STAMPED) {
      const event: ChartEvent = JSON.parse(text);
      latest = Object.assign({ user: { user_id_hash: user, consent: choice } }, visits && visit(event), event);
      put(key, toJson(latest));
    }
  return session != before && new Promise((resolve) => setTimeout(resolve, SEEN_BY_ALL_MS));
};

const visit = ({ event_id }: ChartEvent): Partial<ChartEvent> => {
  session = advance(read<Session>(SESSION) || session, event_id, campaign);
  campaign = undefined;
  write(SESSION, session);
  return { seq: session.seq, session: { session_id: session.id, utm: session.utm } };
};

/** Stamps under the lock of all tabs, as they share the visit. */
const stampAlone = async () => {
  await (locks && storage ? locks.request("chart", stamp) : stamp());
  if (latest) decided(url("links"), latest);
};

const url = (path: string) => `${config.collector}/v1/${path}?key=${config.writeKey}`;
const body = (keys: string[]) => envelope(keys.map((key) => waiting.get(key)!));
const ready = () => config.collector && choice?.analytics && !resting;

const deliver = async () => {
  await stampAlone();
  for (let keys: string[]; ready() && (keys = take(most, busy))[0]; ) {
    let wait = 0;
    let status = 0;
    let results: { status: string }[] | undefined;
    busy = keys;
    try {
      const answer = await fetch(url("events"), { method: "POST", body: body(keys), keepalive: true, credentials: "omit" });
      status = answer.status;
      wait = retryAfter(answer.headers.get("Retry-After"));
      ({ results } = await answer.json());
    } catch {
      // no answer, or none that can be read: every event is still to be delivered
    }
    busy = [];
    keys.forEach((key, index) => {
      const fate = fateOf(status, results?.[index], keys.length);
      if (fate != undefined) settle([key], fate);
    });
    if (status == 413) most = keys.length / 2;
    else if (keys.some((key) => waiting.has(key))) {
      clearTimeout(timer);
      timer = undefined;
      resting = wait;
      return later(wait + backoff(failures++));
    } else {
      failures = 0;
      most *= 2;
    }
  }
};

/** Sends what waits, now; resolves after the attempt. */
export const flush = () => (sending ||= deliver().finally(() => (sending = undefined)));

const later = (ms = config.delay ?? 500) => {
  timer ||= setTimeout(() => {
    timer = undefined;
    resting = 0;
    flush();
  }, ms);
};

/** Acts on what waits as the visitor chose: send it, or forget it here and wherever a dead page left some. */
const obey = async () => {
  if (choice!.analytics) {
    // In this order: a request under way takes what is stamped, and what is not yet must find a timer after that.
    await stampAlone();
    later();
  } else settle(waiting.keys(), "consent");
};

/** Looks up what the visitor chose: here or in another tab, else what the page assumes. */
export const decide = () => {
  choice = denied ? { analytics: false } : read<Consent>(CONSENT) || choice || config.consent;
  if (!choice) return;
  open(storage, obey);
  if (!choice.analytics) {
    session = latest = undefined;
    storage?.removeItem(SESSION);
    decided();
  }
  obey();
};

export const start = (next: Config) => {
  Object.assign(config, next);
  try {
    storage = storageOf(next);
  } catch {
    // denied: memory only
  }
  decide();
};

export const track = (type: EventType, payload?: Payload) => {
  const id = uuidv7();
  if (type == "page_view") pageView = id;
  const text = toJson({
    event_type: type,
    event_id: id,
    ts: new Date(timeOf(id)),
    schema_version: SCHEMA_VERSION,
    page_view_id: pageView,
    metadata: { sdk_version: SDK_VERSION },
    ...payload,
    ctx: { ...context(), ...payload?.ctx },
  });
  if (choice && !choice.analytics) lost("consent", [id]);
  else {
    add(id, text);
    if (choice) obey();
  }
  return id;
};

export const chart = ({ action, controlId, controlValue, productIds }: Interaction) =>
  track("chart_interaction", {
    chart: { product_ids: productIds, action, control_id: controlId, control_value: controlValue },
  });

export const affiliateClick = ({ linkId, target, position }: Link) =>
  track("affiliate_click", {
    affiliate: { link_id: linkId, target: cleanUrl(`${target}`), position },
  });

/** `userIdHash` goes with every event from now on; null forgets it. */
export const identify = (userIdHash: string | null) => {
  user = userIdHash;
};

/** The visitor's choice, here and in every tab. */
export const consent = (next: Consent) => {
  choice = next;
  write(CONSENT, next);
  decide();
};

/** The query of a landing page: its campaign belongs to the visit of the next event. */
export const land = (query: string) => {
  campaign = campaignOf(query) || campaign;
};

/** Another tab wrote to storage. */
export const hear = (key: string | null) => {
  if (key == CONSENT) decide();
  else if (locks) notice(`${key}`);
};

/** The page goes away, for good or to return: hand over what a beacon takes, and leave the rest to storage. */
export const leave = (forGood: boolean) => {
  stamp();
  // What a beacon took stays in storage, as nobody hears the answer; of what is not stored no more can be known.
  for (let keys; ready() && (keys = take(Infinity, busy))[0] && beacon(url("events"), body(keys)); )
    keys.forEach((key) => waiting.delete(key));
  close();
  if (forGood) settle(waiting.keys(), choice ? "storage" : "consent");
};

/** No attempt is made any more until the next event. */
export const rest = () => {
  clearTimeout(timer);
  timer = undefined;
};
