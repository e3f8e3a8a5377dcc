/** Every event is delivered at least once, or counted by onDrop: what both engines must show. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Tracer } from "./chart.js";
import { hasFirefox, openChromium, openFirefox, type Engine, type Tab, type Visitor } from "./engines.js";
import { Collector, GRANTED, Site, loseAnswer, pageOf, refuse, settleDown, until } from "./world.js";

declare const chart: Tracer;

/** Acts `count` times on the chart, by controls `<name>0`, `<name>1`, … */
const act = (tab: Tab, name: string, count: number) =>
  tab.evaluate(
    (name, count) => {
      for (let i = 0; i < count; i++) chart.chart({ action: "toggle", controlId: name + i, controlValue: i });
    },
    name,
    count,
  );
const names = (name: string, count: number) => Array.from({ length: count }, (_, i) => name + i);

describe.each([
  { engine: "chromium", present: true, open: openChromium },
  { engine: "firefox", present: hasFirefox, open: openFirefox },
])("in $engine", ({ present, open }) => {
  describe.skipIf(!present)("a page", () => {
    let browser: Engine;
    let visitor: Visitor;
    let collector: Collector;
    let site: Site;
    beforeAll(async () => {
      browser = await open();
    });
    afterAll(() => browser.close());
    beforeEach(async () => {
      collector = await new Collector().start();
      site = await new Site().start();
      visitor = await browser.visitor();
      site.pages.set("*", pageOf(collector, GRANTED));
    });
    afterEach(async () => {
      await visitor.close();
      await collector.stop();
      await site.stop();
    });

    it("delivers a page view and each interaction once, in one visit, numbered from 0", async () => {
      const tab = await visitor.tab();
      await tab.goto(`${site.url}/?utm_source=news&utm_campaign=may&email=a@b.example`);
      await act(tab, "c", 5);
      await until(() => collector.kept.size == 6);
      await settleDown();
      expect([...collector.received.values()]).toEqual([1, 1, 1, 1, 1, 1]);
      const events = [...collector.kept.values()];
      expect(events.map((event) => event.seq)).toEqual([0, 1, 2, 3, 4, 5]);
      expect(new Set(events.map((event) => event.session?.session_id)).size).toBe(1);
      expect(events[0]?.session?.utm).toEqual({ source: "news", campaign: "may" });
      expect(events[0]?.ctx?.page_url).toBe(`${site.url}/?utm_source=news&utm_campaign=may`);
      expect(new Set(events.map((event) => event.page_view_id))).toEqual(new Set([events[0]?.event_id]));
      expect(collector.preflights).toBe(0);
      expect(collector.posts[0]?.headers["content-type"]).toMatch(/^text\/plain/);
      expect(collector.posts[0]?.path).toBe("/v1/events?key=wk_test");
    });

    it("repeats a lost acknowledgement with the same bytes but for sent_at", async () => {
      collector.faults.push(loseAnswer(collector));
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await until(() => collector.posts.length == 2);
      const [first, second] = collector.posts;
      expect(second!.text.replace(second!.sentAt, "")).toBe(first!.text.replace(first!.sentAt, ""));
      expect(second!.sentAt).not.toBe(first!.sentAt);
      expect(collector.kept.size).toBe(1);
    });

    it("takes an answer without results for none", async () => {
      collector.faults.push((response) => void response.writeHead(202).end("ok"));
      await (await visitor.tab()).goto(site.url);
      await until(() => collector.kept.size == 1);
    });

    it("waits as long as a 429 asks", async () => {
      collector.faults.push(refuse(429, { "Retry-After": "2" }));
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await until(() => collector.posts.length == 1);
      await act(tab, "c", 1);
      await tab.evaluate(() => chart.flush());
      await until(() => collector.kept.size == 2);
      expect(collector.posts[1]!.at - collector.posts[0]!.at).toBeGreaterThanOrEqual(1990);
    });

    it("sends again after 503 and 408", async () => {
      collector.faults.push(refuse(503, { "Retry-After": "0" }), refuse(408));
      await (await visitor.tab()).goto(site.url);
      await until(() => collector.kept.size == 1);
      expect(collector.posts.length).toBe(3);
    });

    it.each([400, 401, 403, 415])("gives up on %i, and says so", async (status) => {
      collector.faults.push(refuse(status));
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await until(() => site.dropped(`http_${status}`).length == 1);
      await act(tab, "after", 1);
      await until(() => collector.kept.size == 1);
      expect(collector.controls()).toEqual(["after0"]);
    });

    it("splits what is too large, and gives up on the one event that is", async () => {
      collector.fault = (response, post) =>
        post.events.length > 2 || post.text.includes("huge") ? void refuse(413)(response, post) : false;
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await act(tab, "c", 9);
      await act(tab, "huge", 1);
      await act(tab, "d", 3);
      await until(() => collector.kept.size + site.dropped().length == 14);
      expect(collector.controls().sort()).toEqual([...names("c", 9), ...names("d", 3)]);
      expect(site.dropped("http_413").length).toBe(1);
    });

    it("acts on each event's own result", async () => {
      collector.rejects = (event) => event.chart?.control_id == "c1";
      let once = true;
      collector.fault = (response, post) => {
        if (!once || post.events.length < 4) return false;
        once = false;
        const results = collector.keep({ ...post, events: post.events.slice(0, 3) });
        results.push({ index: 3, event_id: post.events[3]!.event_id, status: "retry" });
        response.writeHead(202).end(JSON.stringify({ accepted: 2, results }));
      };
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await act(tab, "c", 3);
      await until(() => collector.kept.size == 3 && site.drops.length);
      expect(collector.controls().sort()).toEqual(["c0", "c2"]);
      expect(site.drops.map(({ reason, count }) => [reason, count])).toEqual([["rejected", 1]]);
      await settleDown();
      expect(site.drops.length).toBe(1);
    });

    it("keeps events while the collector is down, and delivers them when it is back", async () => {
      await collector.stop();
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await act(tab, "c", 20);
      await tab.evaluate(() => chart.flush());
      await collector.start();
      await until(() => collector.kept.size == 21);
      expect(site.drops).toEqual([]);
    });

    it("loses nothing when it goes away right after an action", async () => {
      const tab = await visitor.tab();
      await tab.goto(`${site.url}/a`);
      for (let i = 0; i < 10; i++) {
        await tab.evaluate((i) => {
          chart.chart({ action: "sort", controlId: "leave" + i });
          location.href = "/next" + i;
        }, i);
        await until(() => tab.evaluate((i) => location.pathname == "/next" + i && typeof chart == "object", i).catch(() => false));
      }
      await until(() => collector.controls().length == 10 && collector.of("page_view").length == 11);
      await settleDown();
      expect(collector.kept.size).toBe(21);
      expect(site.drops).toEqual([]);
    });

    it("leaves what it could not send to the next page of the visitor", async () => {
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await until(() => collector.kept.size == 1);
      await collector.stop();
      await act(tab, "c", 7);
      await tab.goto("about:blank");
      await collector.start();
      await (await visitor.tab()).goto(site.url);
      await until(() => collector.controls().length == 7);
      await until(() => collector.kept.size == 9);
    });

    it("shares one visit with other tabs, and no number twice", async () => {
      const tabs = await Promise.all([visitor.tab(), visitor.tab(), visitor.tab()]);
      await Promise.all(tabs.map((tab) => tab.goto(site.url)));
      for (let round = 0; round < 5; round++)
        await Promise.all(tabs.map((tab, index) => act(tab, `t${index}r${round}-`, 10)));
      await until(() => collector.kept.size == 153);
      const events = [...collector.kept.values()];
      expect(new Set(events.map((event) => event.session?.session_id)).size).toBe(1);
      expect(events.map((event) => event.seq).sort((a, b) => a! - b!)).toEqual(Array.from({ length: 153 }, (_, i) => i));
    });

    it("adopts the events of a tab that was closed while the collector was down", async () => {
      const [survivor, victim] = [await visitor.tab(), await visitor.tab()];
      await survivor.goto(site.url);
      await victim.goto(site.url);
      await until(() => collector.kept.size == 2);
      await collector.stop();
      await act(victim, "c", 5);
      await victim.close();
      await collector.start();
      await until(() => collector.controls().length == 5);
      expect(collector.controls().sort()).toEqual(names("c", 5));
      expect(site.drops).toEqual([]);
    });

    it("is one page view again after back, and loses nothing on the way", async () => {
      const tab = await visitor.tab();
      await tab.goto(`${site.url}/a`);
      await until(() => collector.kept.size == 1);
      await act(tab, "c", 1);
      await tab.goto(`${site.url}/b`);
      await tab.back();
      await until(() => tab.evaluate(() => location.pathname == "/a" && typeof chart == "object").catch(() => false));
      await act(tab, "d", 1);
      await until(() => collector.kept.size == 5);
      await settleDown();
      expect(collector.of("page_view").map((event) => new URL(event.ctx!.page_url!).pathname)).toEqual(["/a", "/b", "/a"]);
      expect(new Set(collector.of("page_view").map((event) => event.page_view_id)).size).toBe(3);
    });

    it("says nothing and keeps nothing before consent, then tells all with the original times", async () => {
      site.pages.set("*", pageOf(collector));
      const tab = await visitor.tab();
      await tab.goto(site.url);
      await act(tab, "c", 3);
      const before = Date.now();
      await settleDown();
      expect(collector.posts).toEqual([]);
      expect(await tab.evaluate(() => Object.keys(localStorage))).toEqual([]);
      await tab.evaluate(() => chart.consent({ analytics: true, ads: false }));
      await until(() => collector.kept.size == 4);
      for (const event of collector.kept.values()) {
        expect(Date.parse(event.ts)).toBeLessThanOrEqual(before);
        expect(event.user.consent).toEqual({ analytics: true, ads: false });
      }
    });

    it("forgets everything in every tab when the visitor says no", async () => {
      const tabs = [await visitor.tab(), await visitor.tab()];
      for (const tab of tabs) await tab.goto(site.url);
      await until(() => collector.kept.size == 2);
      collector.fault = refuse(503);
      await act(tabs[0]!, "a", 3);
      await act(tabs[1]!, "b", 4);
      await tabs[0]!.evaluate(() => chart.consent({ analytics: false }));
      await until(() => site.dropped("consent").length == 7);
      expect(await tabs[1]!.evaluate(() => Object.keys(localStorage))).toEqual(["chart:consent"]);
      collector.fault = undefined;
      await act(tabs[1]!, "later", 2);
      await until(() => site.dropped("consent").length == 9);
      await settleDown();
      expect(collector.controls()).toEqual([]);
      expect(new Set(site.dropped("consent")).size).toBe(9);
    });
  });
});
