/** The Node build, as a program uses it: real HTTP, real files, killed processes. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Collector, refuse, until } from "../browser/world.js";

let collector: Collector;
let folder: string;

beforeEach(async () => {
  collector = await new Collector().start();
  folder = mkdtempSync(join(tmpdir(), "tracer-"));
});
afterEach(async () => {
  await collector.stop();
  rmSync(folder, { recursive: true });
});

/** Runs a program with the tracer at hand; what it prints. */
const run = (program: string) =>
  new Promise<string>((resolve) => {
    const source = `import * as chart from ${JSON.stringify(new URL("../../dist/node.js", import.meta.url).href)};
      const start = (more) => chart.init({ collector: ${JSON.stringify(collector.url)}, writeKey: "wk_server", delay: 10,
        consent: { analytics: true }, onDrop: (reason, count) => console.log(reason, count), ...more });
      const folder = ${JSON.stringify(folder)};
      ${program}`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", source], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk));
    child.on("close", () => resolve(output.trim()));
  });

it("sends a server's events with the visit that the caller names, and ends by itself", async () => {
  await run(`start(); chart.track("page_view", { user: { user_id_hash: "u", consent: { analytics: true } },
    session: { session_id: "s" }, ctx: { page_url: "https://shop.example/" } });`);
  const [event] = [...collector.kept.values()];
  expect(event).toMatchObject({ session: { session_id: "s" }, user: { user_id_hash: "u" }, schema_version: "1.2.0" });
  expect(event?.seq).toBeUndefined();
});

it("gives an app's events a visit that outlives the process", async () => {
  for (let i = 0; i < 2; i++) await run(`start({ folder, visits: true }); chart.page(); await chart.flush();`);
  const events = [...collector.kept.values()];
  expect(events.map((event) => event.seq)).toEqual([0, 1]);
  expect(new Set(events.map((event) => event.session?.session_id)).size).toBe(1);
});

it("finds the events of a killed process in the folder", async () => {
  collector.fault = refuse(503);
  await run(`start({ folder }); for (let i = 0; i < 5; i++) chart.page(); await chart.flush(); process.kill(process.pid, "SIGKILL");`);
  expect(collector.kept.size).toBe(0);
  expect(readdirSync(folder).length).toBe(5);
  collector.fault = undefined;
  await run(`start({ folder });`);
  await until(() => collector.kept.size == 5);
  expect(readdirSync(folder)).toEqual([]);
});

it("counts what it could not send when it is closed without a folder", async () => {
  collector.fault = refuse(503, { "Retry-After": "60" });
  expect(await run(`start(); chart.page(); chart.page(); await chart.close();`)).toBe("storage 2");
});
