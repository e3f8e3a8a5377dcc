// The one place that knows the tracer. The page itself is instrumented by data-chart-* attributes alone; here it is
// started, and what it sends is watched for the panel: a page with nothing to show would only need start().

const root = document.documentElement;
export const collector = root.dataset.collector;

const watchers = new Set();
const tell = (kind, detail) => watchers.forEach((watcher) => watcher[kind]?.(detail));

/** `{sent(event), answered({id, status, reasons, ms}), failed({ids, why}), dropped({ids, reason, count})}`, any of them. */
export const watch = (watcher) => watchers.add(watcher);

export const denied = navigator.globalPrivacyControl === true;

/** Start the tracer; false when the collector did not serve it (not running, or blocked by an extension). */
export function start(variant) {
  if (!window.chart) return false;
  watchRequests();
  window.chart.init({
    collector,
    writeKey: root.dataset.key,
    variant,
    experimentKeys: ["cta-layout"],
    onDrop: (reason, count, ids) => tell("dropped", { reason, count, ids: ids ?? [] }),
  });
  return true;
}

let chosen;
export function consent(choice) {
  chosen = choice;
  window.chart?.consent(choice);
}

let renewal;
/** The chart's order has changed, and with it the positions that its links were signed with. */
export function renewLinks() {
  clearTimeout(renewal);
  // Told of a consent that it knows, the tracer does no more than to sign the links of the page.
  if (chosen?.analytics) renewal = setTimeout(() => window.chart?.consent(chosen), 250);
}

function watchRequests() {
  const real = window.fetch;
  window.fetch = async (target, options) => {
    const events = String(target).startsWith(`${collector}/v1/events`) ? eventsOf(options?.body) : [];
    if (!events.length) return real(target, options);
    const began = performance.now();
    const ids = events.map((event) => event.event_id);
    for (const event of events) tell("sent", event);
    try {
      const answer = await real(target, options);
      const took = performance.now() - began;
      if (answer.status === 202) {
        const { results } = await answer.clone().json();
        results.forEach((result, index) =>
          tell("answered", { id: ids[index], status: result.status, reasons: result.reasons ?? [], took }),
        );
      } else tell("failed", { ids, why: `HTTP ${answer.status}` });
      return answer;
    } catch (error) {
      tell("failed", { ids, why: navigator.onLine ? "no answer" : "offline" });
      throw error;
    }
  };
}

function eventsOf(body) {
  try {
    const found = JSON.parse(body);
    return Array.isArray(found) ? found : found.events ?? [found];
  } catch {
    return [];
  }
}
