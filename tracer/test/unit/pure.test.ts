/** The pure parts: ids, text, visits, and what an answer means. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { timeOf, uuidv7 } from "../../src/ids.js";
import type * as browserPlatform from "../../src/platform.browser.js";
import * as nodePlatform from "../../src/platform.node.js";
import { advance, type Session } from "../../src/session.js";
import { campaignOf, cleanUrl, toJson } from "../../src/text.js";
import { backoff, envelope, fateOf, retryAfter } from "../../src/transport.js";

const MINUTE = 60_000;
const instant = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2500, 0) });

describe("an id", () => {
  it("is a UUIDv7 that tells its time", () => {
    fc.assert(
      fc.property(instant, (ms) => {
        const id = uuidv7(ms);
        expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        expect(timeOf(id)).toBe(ms);
      }),
    );
  });

  it("sorts by time, and is unique within a millisecond", () => {
    expect(uuidv7(1.7e12) < uuidv7(1.7e12 + 1)).toBe(true);
    expect(new Set(Array.from({ length: 10_000 }, () => uuidv7(1.7e12))).size).toBe(10_000);
  });
});

describe("text", () => {
  it("is well-formed as toWellFormed makes it, whatever the string", () => {
    const unit = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code));
    fc.assert(
      fc.property(fc.array(unit), (units) => {
        const text = units.join("").replaceAll(/@|%40/g, "");
        const wellFormed = Buffer.from(text, "utf8").toString("utf8");
        expect(JSON.parse(toJson({ text }))).toEqual({ text: wellFormed });
      }),
    );
  });

  it.each([
    ["https://a.example/p?q=1#top", "https://a.example/p?q=1"],
    ["https://user:pass@a.example/", "https://a.example/"],
    ["https://a.example/?email=x&E-Mail=x&phone=1&access_token=t&api_key=k&key=k&first_name=n&keyword=w", "https://a.example/?keyword=w"],
    ["https://a.example/?utm_source=s&page=2", "https://a.example/?utm_source=s&page=2"],
    ["", undefined],
    ["/relative", undefined],
  ])("of the URL %s leaves the page as %s", (given, clean) => {
    expect(cleanUrl(given)).toBe(clean);
  });

  it.each(["ann@mail.example", "ann%40mail.example"])("loses the address %s wherever it stands", (address) => {
    expect(toJson({ a: [`x ${address}`, `https://a.example/u/${address}/?q=${address}&r=1`] })).not.toContain(address);
  });

  it("has the campaign of a query, if any", () => {
    expect(campaignOf("?utm_source=s&utm_term=a+b&q=1")).toEqual({ source: "s", term: "a b" });
    expect(campaignOf("?q=1")).toBeUndefined();
  });
});

describe("a visit", () => {
  const visit: Session = { id: "v", start: 1e12, last: 1e12, seq: 4 };

  it("lasts through a silence of 30 minutes and ends after a longer one", () => {
    expect(advance(visit, uuidv7(1e12 + 30 * MINUTE))).toMatchObject({ id: "v", seq: 5 });
    const id = uuidv7(1e12 + 30 * MINUTE + 1);
    expect(advance(visit, id)).toMatchObject({ id, seq: 0 });
  });

  it("lasts 24 hours at most", () => {
    const long = { ...visit, last: 1e12 + 24 * 60 * MINUTE };
    expect(advance(long, uuidv7(1e12 + 24 * 60 * MINUTE)).id).toBe("v");
    expect(advance(long, uuidv7(1e12 + 24 * 60 * MINUTE + 1)).id).not.toBe("v");
  });

  it("is new iff the gap or the age says so, and numbers its events 0, 1, 2, …", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 45 * MINUTE }), { minLength: 1, maxLength: 80 }), (gaps) => {
        let ts = 1e12;
        let current: Session | undefined;
        for (const gap of gaps) {
          ts += gap;
          const next: Session = advance(current, uuidv7(ts));
          const same = current && gap <= 30 * MINUTE && ts - current.start <= 24 * 60 * MINUTE;
          expect(next.id == current?.id).toBe(!!same);
          expect(next.seq).toBe(same ? current!.seq + 1 : 0);
          current = next;
        }
      }),
    );
  });

  it("doesn't move back for an event that comes late", () => {
    expect(advance({ ...visit, last: 1e12 + MINUTE }, uuidv7(1e12))).toMatchObject({ id: "v", last: 1e12 + MINUTE });
  });

  it("keeps its campaign until another one lands", () => {
    const landed = advance(undefined, uuidv7(1e12), { source: "a" });
    expect(advance(landed, uuidv7(1e12)).utm).toEqual({ source: "a" });
    expect(advance(landed, uuidv7(1e12), { source: "b" }).utm).toEqual({ source: "b" });
  });
});

describe("an answer", () => {
  it.each([
    [202, { status: "accepted" }, 2, false],
    [202, { status: "duplicate" }, 2, false],
    [202, { status: "rejected" }, 2, "rejected"],
    [202, { status: "discarded" }, 2, "consent"],
    [202, { status: "retry" }, 2, undefined],
    [202, { status: "something new" }, 2, undefined],
    [202, undefined, 2, undefined],
    [200, { status: "accepted" }, 2, undefined],
    [400, undefined, 2, "http_400"],
    [401, undefined, 2, "http_401"],
    [403, undefined, 2, "http_403"],
    [415, undefined, 2, "http_415"],
    [413, undefined, 1, "http_413"],
    [413, undefined, 2, undefined],
    [404, undefined, 1, undefined],
    [408, undefined, 1, undefined],
    [429, undefined, 1, undefined],
    [500, undefined, 1, undefined],
    [0, undefined, 1, undefined],
  ])("%i with %o for one of %i events means %s", (status, result, count, fate) => {
    expect(fateOf(status, result, count)).toBe(fate);
  });

  it.each([
    [null, 0],
    ["3", 3000],
    ["0", 0],
    ["99999999999", 86_400_000],
    ["Wed, 21 Oct 2026 07:28:00 GMT", 0],
  ])("with Retry-After %s is waited for %i ms", (header, ms) => {
    expect(retryAfter(header)).toBe(ms);
  });

  it("is waited for anywhere below a bound that doubles up to a minute", () => {
    fc.assert(
      fc.property(fc.nat(40), (failures) => {
        const wait = backoff(failures);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(Math.min(60_000, 1000 * 2 ** failures));
      }),
    );
  });

  it("is asked for by an envelope around the events' own bytes", () => {
    const text = envelope(['{"b":1,  "a":2}', "{}"]);
    expect(text).toContain('"events":[{"b":1,  "a":2},{}]');
    expect(Date.parse((JSON.parse(text) as { sent_at: string }).sent_at)).toBeLessThanOrEqual(Date.now());
  });
});

describe("the sources", () => {
  it("have the event type that the newest contract generates", () => {
    const generated = execFileSync(process.execPath, ["scripts/types.mjs", "--print"], { encoding: "utf8" });
    expect(readFileSync("src/event.ts", "utf8")).toBe(generated);
  });

  it("have all of a browser's surroundings in Node, too", () => {
    // The compiler does the comparing.
    const surroundings: Omit<typeof browserPlatform, "refer" | "visits"> = nodePlatform;
    expect(Object.keys(surroundings)).toContain("storageOf");
  });
});
