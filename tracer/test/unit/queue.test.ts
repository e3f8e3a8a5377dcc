/** The queue: whatever happens to it, each event is waiting, delivered, or counted; never two of these, never none. */
import fc from "fast-check";
import { beforeEach, expect, it } from "vitest";
import { config } from "../../src/config.js";
import { uuidv7 } from "../../src/ids.js";
import { add, close, open, put, settle, take, waiting } from "../../src/queue.js";

/** localStorage with room for `room` characters. */
const storage = (room = Infinity) => {
  const items: Record<string, unknown> = {};
  const methods = {
    getItem: (key: string) => items[key] ?? null,
    setItem(key: string, value: string) {
      const used = Object.entries(items).reduce((sum, [name, item]) => sum + (name == key ? 0 : String(item).length), 0);
      if (used + value.length > room) throw new DOMException("full", "QuotaExceededError");
      items[key] = value;
    },
    removeItem: (key: string) => delete items[key],
  };
  for (const [name, value] of Object.entries(methods)) Object.defineProperty(items, name, { value });
  return items as unknown as Storage;
};

const idOf = (key: string) => key.slice(-36);
/** The text of an event that has its visitor, as only those are handed out; longer than `size` by its beginning. */
const stamped = (size: number, letter = "x") => `{"user":${letter.repeat(size)}`;
let dropped: string[];

beforeEach(() => {
  dropped = [];
  settle(waiting.keys());
  close();
  config.onDrop = (_, count, ids) => {
    expect(ids.length).toBe(count);
    dropped.push(...ids);
  };
});

const step = fc.oneof(
  fc.record({ do: fc.constant("add" as const), size: fc.integer({ min: 1, max: 3000 }) }),
  fc.record({ do: fc.constant("deliver" as const), most: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ do: fc.constant("reject" as const), most: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ do: fc.constant("restart" as const) }),
);

it("has each event waiting, delivered or dropped, through restarts and full storage", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.option(fc.integer({ min: 1000, max: 20_000 })), (steps, room) => {
      const created = new Set<string>();
      const delivered = new Set<string>();
      dropped = [];
      settle(waiting.keys());
      close();
      const disk = storage(room ?? Infinity);
      open(disk, () => {});
      for (const now of steps)
        if (now.do == "add") {
          const id = uuidv7();
          created.add(id);
          add(id, stamped(now.size));
        } else if (now.do == "restart") {
          close();
          open(disk, () => {});
        } else {
          const keys = take(now.most, []);
          expect(keys.length).toBeLessThanOrEqual(now.most);
          if (now.do == "deliver") keys.forEach((key) => delivered.add(idOf(key)));
          settle(keys, now.do == "reject" && "rejected");
        }
      const left = [...waiting.keys()].map(idOf);
      expect([...left, ...delivered, ...dropped].sort()).toEqual([...created].sort());
      // Whatever storage has is waiting, too: nothing that is done with comes back.
      for (const key of Object.keys(disk)) expect(waiting.has(key)).toBe(true);
    }),
  );
});

it("hands out the oldest first, within 50,000 bytes and without those under way", () => {
  const ids = Array.from({ length: 10 }, () => uuidv7());
  for (const id of ids) add(id, stamped(4000, "ä"));
  const first = take(Infinity, []);
  expect(first.map(idOf)).toEqual(ids.slice(0, 6));
  expect(take(Infinity, first).map(idOf)).toEqual(ids.slice(6));
});

it("hands out an event larger than a request alone", () => {
  add(uuidv7(), stamped(60_000));
  add(uuidv7(), stamped(1));
  expect(take(Infinity, []).length).toBe(1);
});

it("keeps back what has no visitor yet", () => {
  const id = uuidv7();
  add(uuidv7(), '{"event_type":"page_view"}');
  add(id, stamped(1));
  expect(take(Infinity, []).map(idOf)).toEqual([id]);
});

it("refuses what exceeds a thousand events", () => {
  for (let i = 0; i < 1003; i++) add(uuidv7(), "{}");
  expect(waiting.size).toBe(1000);
  expect(dropped.length).toBe(3);
});

it("drops what waited for more than a week", () => {
  put(`chart:${uuidv7()}:${uuidv7(Date.now() - 7 * 86_400_000 - 1000)}`, "{}");
  expect(take(Infinity, [])).toEqual([]);
  expect(dropped.length).toBe(1);
});

it("leaves to storage what was stored, and keeps what was not, when it is closed", () => {
  const disk = storage(5);
  open(disk, () => {});
  add(uuidv7(), "12345");
  add(uuidv7(), "6");
  close();
  expect([...waiting.values()]).toEqual(["6"]);
  expect(Object.keys(disk).map((key) => disk.getItem(key))).toEqual(["12345"]);
});
