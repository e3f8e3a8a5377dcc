/** What only Chromium lets us provoke: crashes, prerendering, blocked storage, Global Privacy Control, offline. */
import puppeteer from "puppeteer-core";
import type { BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import type { Tracer } from "./chart.js";
import { CHROMIUM, QUIET, openChromium, type Engine, type Visitor } from "./engines.js";
import { Collector, GRANTED, Site, pageOf, settleDown, until } from "./world.js";

declare const chart: Tracer;

let browser: Engine;
let visitor: Visitor;
let context: BrowserContext;
let collector: Collector;
let site: Site;

beforeAll(async () => {
  browser = await openChromium();
});
afterAll(() => browser.close());
beforeEach(async () => {
  collector = await new Collector().start();
  site = await new Site().start();
  visitor = await browser.visitor();
  context = visitor.context!;
  site.pages.set("*", pageOf(collector, GRANTED));
});
afterEach(async () => {
  await visitor.close();
  await collector.stop();
  await site.stop();
});

const open = async (path = "/") => {
  const page = await context.newPage();
  await page.goto(site.url + path);
  return page;
};
const act = (page: Page, name: string, count = 1) =>
  page.evaluate(
    ([name, count]) => {
      for (let i = 0; i < count; i++) chart.chart({ action: "toggle", controlId: name + i });
    },
    [name, count] as const,
  );
const paths = () => collector.of("page_view").map((event) => new URL(event.ctx!.page_url!).pathname);

it("is restored from the back/forward cache as one new page view, and goes on in the same visit", async () => {
  const page = await open("/a");
  await until(() => collector.kept.size == 1);
  await page.goto(`${site.url}/b`);
  await page.goBack({ waitUntil: "commit" });
  await until(() => paths().length == 3);
  await act(page, "c", 3);
  await until(() => collector.kept.size == 6);
  await settleDown();
  expect(paths()).toEqual(["/a", "/b", "/a"]);
  const [, , restored] = collector.of("page_view");
  for (const event of collector.of("chart_interaction")) expect(event.page_view_id).toBe(restored!.event_id);
  expect(await page.evaluate(() => performance.getEntriesByType("navigation").length)).toBe(1);
  expect([...collector.kept.values()].map((event) => event.seq).sort()).toEqual([0, 1, 2, 3, 4, 5]);
});

it("has its events adopted by another tab when its renderer crashes", async () => {
  const survivor = await open();
  const victim = await open();
  await until(() => collector.kept.size == 2);
  await collector.stop();
  await act(victim, "c", 5);
  await settleDown(200);
  const session = await context.newCDPSession(victim);
  session.send("Page.crash").catch(() => {});
  await settleDown(200);
  await collector.start();
  await until(() => collector.controls().length == 5);
  expect(site.drops).toEqual([]);
  await survivor.close();
});

it("keeps events while offline, and sends them as soon as it is online", async () => {
  const page = await open();
  await until(() => collector.kept.size == 1);
  await context.setOffline(true);
  await act(page, "c", 4);
  await settleDown();
  expect(collector.kept.size).toBe(1);
  await context.setOffline(false);
  await until(() => collector.kept.size == 5);
});

it("counts a prerendered page only when the visitor gets to see it", async () => {
  site.pages.set("/start", `<!doctype html><title>Start</title><a href="/next">next</a>
    <script type="speculationrules">{"prerender":[{"urls":["/next"],"eagerness":"immediate"}]}</script>`);
  // Playwright's Chromium doesn't prerender.
  const prerendering = await puppeteer.launch({ executablePath: CHROMIUM, args: QUIET });
  try {
    const page = await prerendering.newPage();
    await page.goto(`${site.url}/start`);
    await until(() => site.visits.some(({ path }) => path == "/dist/tracer.js"));
    await settleDown();
    expect(collector.posts).toEqual([]);
    await page.click("a");
    await until(() => collector.kept.size == 1);
    await settleDown();
    expect(paths()).toEqual(["/next"]);
    // Activated, not loaded anew.
    expect(site.visits.filter(({ path }) => path == "/next")).toEqual([{ path: "/next", purpose: "prefetch;prerender" }]);
  } finally {
    await prerendering.close();
  }
});

it("keeps and sends nothing under Global Privacy Control, and counts it", async () => {
  await context.addInitScript(() => {
    Object.defineProperty(Navigator.prototype, "globalPrivacyControl", { value: true });
  });
  const page = await open();
  await act(page, "c", 2);
  await page.evaluate(() => chart.consent({ analytics: true }));
  await act(page, "d", 1);
  await until(() => site.dropped("consent").length == 4);
  await settleDown();
  expect(collector.posts).toEqual([]);
  expect(await page.evaluate(() => Object.keys(localStorage).filter((key) => key != "chart:consent"))).toEqual([]);
});

it("works from memory where storage is denied, and counts what it could not send before it went away", async () => {
  await context.addInitScript(() => {
    Object.defineProperty(window, "localStorage", {
      get() {
        throw new DOMException("denied", "SecurityError");
      },
    });
  });
  const page = await open();
  await act(page, "c", 3);
  await until(() => collector.kept.size == 4);
  expect(new Set([...collector.kept.values()].map((event) => event.session?.session_id)).size).toBe(1);
  await page.evaluate(() => {
    navigator.sendBeacon = () => false;
  });
  await page.evaluate(() => {
    window.onDrop = (reason: string, count: number, ids: string[]) =>
      void fetch("/drops", { method: "POST", body: JSON.stringify({ reason, count, ids }), keepalive: true });
    chart.onDrop(window.onDrop);
    for (let i = 0; i < 2; i++) chart.chart({ action: "toggle", controlId: "last" + i });
    // A page that no cache keeps.
    addEventListener("unload", () => {});
    location.href = "about:blank";
  });
  await until(() => site.drops.length);
  expect(site.drops.map(({ reason, count }) => [reason, count])).toEqual([["storage", 2]]);
});

it("delivers more than a beacon's quota when the page goes away", async () => {
  const page = await open();
  await until(() => collector.kept.size == 1);
  await page.evaluate(() => {
    for (let i = 0; i < 300; i++) chart.chart({ action: "filter", controlId: "big" + i, controlValue: "x".repeat(300) });
    location.href = "/next";
  });
  await until(() => new Set(collector.controls()).size == 300);
  for (const post of collector.posts) expect(Buffer.byteLength(post.text)).toBeLessThan(51_000);
  expect(site.drops).toEqual([]);
});

it("counts what does not fit into the queue", async () => {
  await collector.stop();
  const page = await open();
  await act(page, "c", 1010);
  await until(() => site.dropped("queue_full").length == 11);
  await collector.start();
  await until(() => collector.kept.size == 1000);
});

it("drops what waited for more than a week", async () => {
  const page = await context.newPage();
  site.pages.set("/plain", "<!doctype html><title>Plain</title>");
  await page.goto(`${site.url}/plain`);
  await page.evaluate((ms) => {
    const id = ("0" + ms.toString(16)).replace(/.{8}/, "$&-") + "-7000-8000-000000000000";
    localStorage.setItem(`chart:${"0".repeat(36)}:${id}`, '{"user":{}}');
  }, Date.now() - 8 * 86_400_000);
  await page.goto(site.url);
  await until(() => site.dropped("expired").length == 1);
  await until(() => collector.kept.size == 1);
});

it("sends no lone surrogate, no address and no secret", async () => {
  const page = await open("/?q=1&token=abc&EMail=x&keyword=ok#frag");
  await page.evaluate(() => {
    chart.chart({ action: "filter", controlId: "text", controlValue: "a\ud800b ann@mail.example" });
    chart.affiliateClick({ linkId: "l1", target: "https://u:p@partner.example/x?api_key=1&a=2#f", position: 2 });
  });
  await until(() => collector.kept.size == 3);
  expect(collector.of("page_view")[0]?.ctx?.page_url).toBe(`${site.url}/?q=1&keyword=ok`);
  expect(collector.of("chart_interaction")[0]?.chart?.control_value).toBe("a\ufffdb [redacted]");
  expect(collector.of("affiliate_click")[0]?.affiliate).toEqual({
    link_id: "l1",
    target: "https://partner.example/x?a=2",
    position: 2,
  });
});

it("understands data attributes", async () => {
  site.pages.set("/chart", pageOf(collector, GRANTED, `
    <main data-chart-variant="b" data-chart-products="p1,p2">
      <button data-chart-action="toggle" data-chart-control="billing" data-chart-value="yearly"><b>Yearly</b></button>
      <select data-chart-action="sort" id="order"><option>price<option>rating</select>
      <input type="checkbox" data-chart-action="filter" data-chart-control="free">
      <a data-chart-link="direct" data-chart-position="3" href="https://partner.example/?x=1" onclick="event.preventDefault()">go</a>
    </main>`));
  const page = await open("/chart");
  await page.click("b");
  await page.selectOption("select", "rating");
  await page.click("input");
  await until(() => collector.kept.size == 4);
  expect(collector.of("chart_interaction").map((event) => [event.chart, event.ctx?.ab_variant])).toEqual([
    [{ product_ids: ["p1", "p2"], action: "toggle", control_id: "billing", control_value: "yearly" }, "b"],
    [{ product_ids: ["p1", "p2"], action: "sort", control_id: "order", control_value: "rating" }, "b"],
    [{ product_ids: ["p1", "p2"], action: "filter", control_id: "free", control_value: true }, "b"],
  ]);
  expect(await page.getAttribute("a", "href")).toBe(`${collector.url}/go/direct?c=signed`);
  expect(collector.linkRequests.at(-1)).toMatchObject({
    page_view_id: collector.of("page_view")[0]?.event_id,
    session_id: collector.of("page_view")[0]?.session?.session_id,
    ab_variant: "b",
    consent: { analytics: true, ads: false },
    links: [{ link_id: "direct", position: 3 }],
  });
  // The redirect counts its own clicks, the tracer those of any other link.
  await page.click("a");
  await page.evaluate(() => document.querySelector("a")!.setAttribute("href", "https://partner.example/?x=1"));
  await page.click("a");
  await page.click("a", { button: "middle" });
  await page.click("a", { button: "right" });
  await until(() => collector.of("affiliate_click").length == 2);
  await settleDown();
  expect(collector.of("affiliate_click").map((event) => event.affiliate)).toEqual(
    Array(2).fill({ link_id: "direct", target: "https://partner.example/?x=1", position: 3 }),
  );
  // The visitor withdraws: the links know the visit no more.
  await page.evaluate((url) => {
    document.querySelector("a")!.setAttribute("href", `${url}/go/direct?c=signed`);
    chart.consent({ analytics: false });
  }, collector.url);
  await until(async () => (await page.getAttribute("a", "href")) == `${collector.url}/go/direct`);
});

it("counts each route of a single-page application once, with the route before as referrer", async () => {
  const page = await open("/one");
  await page.evaluate(() => {
    history.pushState({}, "", "/two");
    history.pushState({}, "", "/two#part");
    history.replaceState({}, "", "/two?filter=1");
    history.pushState({}, "", "/three");
  });
  await page.evaluate(() => history.back());
  await until(() => paths().length == 4);
  await settleDown();
  expect(paths()).toEqual(["/one", "/two", "/three", "/two"]);
  expect(collector.of("page_view").map((event) => event.ctx?.referrer?.replace(site.url, ""))).toEqual([
    undefined,
    "/one",
    "/two",
    "/three",
  ]);
});

it("begins a new visit in the middle of a page after 30 minutes of silence", async () => {
  const page = await open();
  await until(() => collector.kept.size == 1);
  await page.evaluate(() => {
    const visit = JSON.parse(localStorage.getItem("chart:session")!);
    localStorage.setItem("chart:session", JSON.stringify({ ...visit, last: visit.last - 30 * 60_000 - 1000 }));
  });
  await act(page, "c", 1);
  await until(() => collector.kept.size == 2);
  const [first, second] = [...collector.kept.values()];
  expect(second!.session!.session_id).not.toBe(first!.session!.session_id);
  expect(second!.seq).toBe(0);
});

it("starts by the attributes of its script tag, and as an ES module", async () => {
  site.pages.set("/tag", `<!doctype html><title>Tag</title>
    <a data-chart-link="deal" href="${collector.url}/go/deal">go</a>
    <script src="${collector.url}/tracer.js" data-write-key="wk_tag" data-collector="${collector.url}" data-variant="t"></script>`);
  site.pages.set("/module", `<!doctype html><title>Module</title><script type="module">
    import { init } from "/dist/index.js";
    init({ collector: "${collector.url}", writeKey: "wk_module", consent: { analytics: true } });</script>`);
  const page = await open("/tag");
  await page.evaluate(() => chart.consent({ analytics: true }));
  await until(() => collector.kept.size == 1);
  expect(collector.posts[0]?.path).toBe("/v1/events?key=wk_tag");
  expect(collector.of("page_view")[0]?.ctx?.ab_variant).toBe("t");
  // A script of another origin, without `crossorigin`: the way the collector's documentation says.
  await until(async () => (await page.getAttribute("a", "href")) == `${collector.url}/go/deal?c=signed`);
  await page.goto(`${site.url}/module`);
  await until(() => collector.posts.some((post) => post.path.endsWith("wk_module")));
});

declare global {
  interface Window {
    onDrop: (reason: string, count: number, ids: string[]) => void;
  }
}
