/**
 * The world around a page under test: a collector that speaks the protocol and can be made to fail, and a site on another
 * origin that serves the built tracer and hears what its pages drop.
 */
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { ChartEvent } from "../../src/types.js";

export interface Post {
  at: number;
  path: string;
  headers: IncomingMessage["headers"];
  text: string;
  sentAt: string;
  events: ChartEvent[];
}

/** Answers a post in place of the collector; false lets the collector answer. */
export type Fault = (response: ServerResponse, post: Post) => boolean | void | Promise<boolean | void>;

const bodyOf = async (request: IncomingMessage) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
};

const listen = async (server: Server, port = 0) => {
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
};

const stop = async (server: Server) => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
};

export class Collector {
  posts: Post[] = [];
  /** What was made durable, once per event_id. */
  kept = new Map<string, ChartEvent>();
  /** How often each was received, duplicates included. */
  received = new Map<string, number>();
  preflights = 0;
  /** One for each of the next posts. */
  faults: Fault[] = [];
  /** For every post while it is set. */
  fault: Fault | undefined;
  /** Event ids that are refused for good. */
  rejects = (_: ChartEvent) => false;
  linkRequests: Record<string, unknown>[] = [];
  port = 0;
  #server: Server | undefined;

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async start() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.port = await listen(this.#server, this.port);
    return this;
  }

  async stop() {
    if (this.#server) await stop(this.#server);
    this.#server = undefined;
  }

  /** Makes durable what the post has, as the collector does before it answers. */
  keep(post: Post) {
    return post.events.map((event, index) => {
      const { event_id } = event;
      const times = this.received.get(event_id) ?? 0;
      this.received.set(event_id, times + 1);
      if (this.rejects(event)) return { index, event_id, status: "rejected", reasons: [] };
      if (!times) this.kept.set(event_id, event);
      return { index, event_id, status: times ? "duplicate" : "accepted" };
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse) {
    response.setHeader("Access-Control-Allow-Origin", request.headers.origin ?? "*");
    response.setHeader("Access-Control-Expose-Headers", "Retry-After");
    if (request.method == "OPTIONS") {
      this.preflights++;
      response.writeHead(204).end();
      return;
    }
    const path = request.url!;
    if (/^\/(tracer|links)\.js$/.test(path)) return script(response, path.slice(1));
    const text = await bodyOf(request).catch(() => "");
    if (!text) return void response.destroy();
    if (path.startsWith("/v1/links")) {
      const asked = JSON.parse(text) as Record<string, unknown> & { links: { link_id: string; position: number }[] };
      this.linkRequests.push(asked);
      const links = asked.links.map((link) => ({ ...link, url: `${this.url}/go/${link.link_id}?c=signed` }));
      return void json(response, 200, { expires_in: 3600, links });
    }
    const { sent_at, events } = JSON.parse(text) as { sent_at: string; events: ChartEvent[] };
    const post: Post = { at: Date.now(), path, headers: request.headers, text, sentAt: sent_at, events };
    this.posts.push(post);
    const fault = this.faults.shift() ?? this.fault;
    if (fault && (await fault(response, post)) != false) return;
    const results = this.keep(post);
    json(response, 202, { accepted: results.length, results });
  }

  /** The interactions that were kept, by their control id. */
  controls() {
    return [...this.kept.values()].map((event) => event.chart?.control_id).filter((id) => id != null);
  }

  of(type: ChartEvent["event_type"]) {
    return [...this.kept.values()].filter((event) => event.event_type == type);
  }
}

const json = (response: ServerResponse, status: number, body: unknown, headers = {}) =>
  response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));

const script = (response: ServerResponse, name: string) =>
  void response
    .writeHead(200, { "Content-Type": "text/javascript" })
    .end(readFileSync(new URL(`../../dist/${name}`, import.meta.url)));

export const refuse =
  (status: number, headers: Record<string, string> = {}): Fault =>
  (response) =>
    void json(response, status, { error: { code: "test", message: "refused" } }, headers);

/** The collector is done with the post, but its answer never arrives. */
export const loseAnswer =
  (collector: Collector): Fault =>
  (response, post) => {
    collector.keep(post);
    response.destroy();
  };

export interface Drop {
  reason: string;
  count: number;
  ids: string[];
}

export class Site {
  pages = new Map<string, string>();
  drops: Drop[] = [];
  /** Paths asked for, and what for. */
  visits: { path: string; purpose: unknown }[] = [];
  port = 0;
  #server: Server | undefined;

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async start() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.port = await listen(this.#server);
    return this;
  }

  async stop() {
    if (this.#server) await stop(this.#server);
  }

  async #answer(request: IncomingMessage, response: ServerResponse) {
    const { pathname } = new URL(request.url!, this.url);
    this.visits.push({ path: pathname, purpose: request.headers["sec-purpose"] });
    if (pathname == "/drops") {
      this.drops.push(JSON.parse(await bodyOf(request)) as Drop);
      return void response.writeHead(204).end();
    }
    if (pathname.startsWith("/dist/")) return script(response, pathname.slice(6));
    const page = this.pages.get(pathname) ?? this.pages.get("*");
    response.writeHead(page ? 200 : 404, { "Content-Type": "text/html; charset=utf-8" }).end(page);
  }

  dropped(reason?: string) {
    return this.drops.filter((drop) => !reason || drop.reason == reason).flatMap((drop) => drop.ids);
  }
}

/** A page that starts the tracer with `options`, tells the site of every drop, and has `body` below. */
export const pageOf = (collector: Collector, options: object = {}, body = "") => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Test</title>
<script src="/dist/tracer.js"></script>
<script>
  onDrop = (reason, count, ids) => navigator.sendBeacon("/drops", JSON.stringify({ reason, count, ids }));
  chart.init({ collector: ${JSON.stringify(collector.url)}, writeKey: "wk_test", delay: 50, onDrop, ...${JSON.stringify(options)} });
</script>
<body>${body}</body></html>`;

export const GRANTED = { consent: { analytics: true, ads: false } };

/** Waits until `condition` holds. Fails by the runner's time limit alone, so that a slow machine decides nothing. */
export const until = async (condition: () => unknown) => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
};

/** Lets whatever may still be under way arrive: nothing is proven by a wait, so use it only before "no more than". */
export const settleDown = (ms = 700) => new Promise((resolve) => setTimeout(resolve, ms));
