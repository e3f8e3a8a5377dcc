// "Follow your events": each event that this visit made, and how far it has come, down to its row in gold.
//
// What the browser knows (made, sent, acknowledged) comes from tracing.js; the rest from /journey of this site's server,
// which reads the tables. Whatever an event carries is shown as text.

import { dollars, h, icon } from "./dom.js";
import { watch } from "./tracing.js";

const STAGES = [
  ["created", "Tab", "made here"],
  ["acknowledged", "Collector", "acknowledged: durable"],
  ["kafka", "Kafka", "partition and offset"],
  ["bronze", "Bronze", "with its offsets, in one commit"],
  ["silver", "Silver", "once, by its id"],
  ["gold", "Gold", "in the row of your visit"],
];
const REASONS = {
  consent: "without consent nothing is kept",
  rejected: "it breaks the contract; it is in the dead letters",
  queue_full: "too many were waiting",
  expired: "it waited longer than a week",
  storage: "nowhere to keep it when the page went away",
};
const POLL_MS = 2_000;
const MOST_SHOWN = 60;
const KINDS = { page_view: "Page view", chart_interaction: "Chart", affiliate_click: "Affiliate click" };
const DONE = { toggle: "Toggled", sort: "Sorted by", filter: "Filtered by", compare_expand: "Opened", compare_collapse: "Closed" };

export function followEvents({ variant, denied }) {
  const drawer = document.getElementById("journey");
  const opener = document.getElementById("follow");
  const counter = document.getElementById("follow-count");
  const events = new Map();
  let sessionId = null;
  let visit = null;
  let consent = denied ? { analytics: false } : undefined;
  let tracing = true;
  let trouble = null;
  let polling = null;
  let lost = 0;

  const list = h("ol", { class: "events", "aria-label": "Your events, newest first" });
  const head = h("div", { class: "summary" });
  const close = h("button", { type: "button", class: "plain close", "aria-label": "Close", onclick: () => open(false) }, icon("close"));
  drawer.append(
    h("header", {}, h("div", {}, h("h2", {}, "Follow your events"), h("p", {}, "From this tab to the gold row of your visit, live.")), close),
    head, list);
  opener.addEventListener("click", () => open(drawer.hidden));
  drawer.addEventListener("keydown", (event) => event.key === "Escape" && open(false));

  function open(shown) {
    drawer.hidden = !shown;
    document.documentElement.classList.toggle("following", shown);
    opener.setAttribute("aria-expanded", String(shown));
    (shown ? close : opener).focus();
    if (shown) poll();
  }

  const one = (id) => {
    if (!events.has(id)) events.set(id, { id, at: {}, expanded: false });
    return events.get(id);
  };

  watch({
    sent(event) {
      const known = one(event.event_id);
      known.event = event;
      known.at.created = Date.parse(event.ts);
      known.attempts = (known.attempts ?? 0) + 1;
      known.waiting = "on its way";
      sessionId = event.session?.session_id ?? sessionId;
      draw();
    },
    answered({ id, status, reasons }) {
      const known = one(id);
      known.waiting = null;
      if (status === "accepted" || status === "duplicate") known.at.acknowledged ??= Date.now();
      else if (status === "retry") known.waiting = "the collector asks for it again";
      else {
        known.fate = status;
        known.reasons = reasons;
      }
      draw();
    },
    failed({ ids, why }) {
      for (const id of ids) one(id).waiting = `waiting: ${why}`;
      draw();
    },
    dropped({ reason, count, ids }) {
      lost += count;
      for (const id of ids) if (events.has(id)) Object.assign(one(id), { fate: one(id).fate ?? "dropped", why: reason });
      draw();
    },
  });

  async function poll() {
    clearTimeout(polling);
    if (!drawer.hidden && !document.hidden && sessionId) {
      try {
        const ids = [...events.keys()].filter((id) => !events.get(id).at.gold).slice(-MOST_SHOWN);
        const answer = await fetch(`/journey?${new URLSearchParams({ session_id: sessionId, event_ids: ids.join(",") })}`);
        if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
        take(await answer.json());
        trouble = null;
      } catch (error) {
        trouble = `The tables can’t be read: ${error.message}`;
      }
      draw();
    }
    if (!drawer.hidden) polling = setTimeout(poll, POLL_MS);
  }

  function take(found) {
    visit = found.visit;
    for (const [id, stage] of Object.entries(found.events)) {
      const known = one(id);
      known.event ??= stage.event;
      known.byRedirect ||= stage.event.event_type === "affiliate_click" && !known.at.acknowledged;
      known.where = stage.where;
      known.waiting = null;
      Object.assign(known.at, Object.fromEntries(Object.entries(stage.at).filter(([, at]) => at)));
    }
  }

  let drawing = false;
  function draw() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      counter.textContent = String(events.size);
      if (drawer.hidden) return;
      head.replaceChildren(...summary());
      const shown = [...events.values()].filter((known) => known.event).sort((a, b) => when(b) - when(a)).slice(0, MOST_SHOWN);
      list.replaceChildren(...shown.map(card));
    });
  }

  function summary() {
    const all = [...events.values()];
    const notes = [];
    if (!tracing) notes.push("The collector did not serve its script: is it running, or does an extension block it?");
    if (denied) notes.push("Your browser sends Global Privacy Control: nothing is recorded.");
    else if (consent === undefined) notes.push("You have not chosen yet: events wait in this tab’s memory, and nothing is stored or sent.");
    else if (!consent.analytics) notes.push("You declined analytics: nothing is recorded.");
    if (trouble) notes.push(trouble);
    return [
      ...notes.map((note) => h("p", { class: "note" }, note)),
      h("dl", { class: "figures" },
        figure("made", all.length), figure("acknowledged", all.filter(({ at }) => at.acknowledged || at.kafka).length),
        figure("in gold", all.filter(({ at }) => at.gold).length), figure("dropped", lost, lost > 0)),
      h("section", { class: "gold", "aria-label": "Your row in gold.fact_funnel" },
        h("h3", {}, "gold.fact_funnel", h("small", {}, visit ? `session ${String(sessionId).slice(0, 8)}…` : "your row appears with the next batch")),
        h("div", { class: "flags" },
          flag("Saw comparison", visit?.saw_comparison), flag("Used the chart", visit?.interacted_chart), flag("Clicked through", visit?.clicked_affiliate),
          h("span", { class: "flag money" }, "Payout ", h("b", {}, visit ? dollars(visit.payout_cents / 100) : "–")),
          h("span", { class: "flag" }, "Variant ", h("b", {}, visit?.ab_variant ?? variant)))),
    ];
  }

  const figure = (label, value, bad = false) => h("div", { class: bad ? "bad" : null }, h("dt", {}, label), h("dd", {}, value));
  const flag = (label, on) => h("span", { class: on ? "flag on" : "flag" }, icon(on ? "yes" : "no"), label);

  function card(known) {
    const { event, at } = known;
    const created = at.created ?? Date.parse(event.ts);
    // What comes later proves what must have come before: a beacon's answer, for one, is seen by nobody.
    const last = STAGES.findLastIndex(([key]) => at[key]);
    const bad = known.fate && last < 2;
    return h("li", { class: `event ${event.event_type}${bad ? " bad" : ""}` },
      h("div", { class: "line" }, h("span", { class: "kind" }, icon(event.event_type)),
        h("span", { class: "what" }, h("b", {}, title(event)), h("small", {}, detail(event))),
        h("time", { datetime: event.ts }, new Date(created).toLocaleTimeString())),
      bad ? h("p", { class: "fate" }, `${known.fate}: ${REASONS[known.why] ?? known.why ?? ""}`, known.reasons?.map((reason) => h("code", {}, `${reason.pointer || "/"} ${reason.message}`)))
        : h("ol", { class: "track", "--done": `${(Math.max(0, last) / (STAGES.length - 1)) * 100}%` }, STAGES.map(([key, label, about], index) =>
            h("li", { class: index <= Math.max(0, last) ? "done" : null, title: about },
              h("span", { class: "dot" }), h("span", { class: "label" }, label),
              h("small", {}, key === "kafka" && known.where ? `p${known.where.partition} · ${known.where.offset}` : key === "acknowledged" && known.byRedirect ? "redirect" : index && at[key] ? took(at[key] - created) : "")))),
      known.waiting && !bad && last < 1 && h("p", { class: "waiting" }, known.waiting));
  }

  return {
    tracer(started) {
      tracing = started;
      draw();
    },
    consent(given) {
      consent = given;
      draw();
      if (given.analytics && !drawer.hidden) poll();
    },
  };
}

const when = ({ at, event }) => at.created ?? Date.parse(event.ts);
const took = (ms) => (ms < 1_000 ? `+${Math.max(0, Math.round(ms))} ms` : ms < 60_000 ? `+${(ms / 1000).toFixed(1)} s` : `+${Math.round(ms / 60_000)} min`);

function title({ event_type: type, chart, affiliate }) {
  if (type === "chart_interaction") return `${DONE[chart?.action] ?? KINDS[type]} ${chart?.control_id ?? ""}`;
  if (type === "affiliate_click") return `Left for ${affiliate?.link_id ?? "a builder"}`;
  return KINDS[type] ?? type;
}

function detail({ event_type: type, chart, affiliate, ctx }) {
  if (type === "chart_interaction") return `set to ${chart?.control_value ?? "–"}`;
  if (type === "affiliate_click") return affiliate?.payout_cents == null ? "through the redirect" : `worth ${dollars(affiliate.payout_cents / 100)}`;
  try {
    return new URL(ctx?.page_url).pathname;
  } catch {
    return String(ctx?.page_url ?? "");
  }
}
