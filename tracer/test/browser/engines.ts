/** Two real browsers behind one face: Chromium by Playwright, Firefox by WebDriver BiDi. */
import { existsSync } from "node:fs";
import { chromium, type BrowserContext } from "playwright-core";
import puppeteer from "puppeteer-core";

/** What Playwright's and Puppeteer's pages have in common. */
export interface Tab {
  goto(url: string, options?: { waitUntil?: "load" }): Promise<unknown>;
  evaluate<A extends unknown[], R>(action: (...args: A) => R, ...args: A): Promise<Awaited<R>>;
  back(): Promise<unknown>;
  close(): Promise<void>;
}

/** One visitor: tabs that share storage. */
export interface Visitor {
  tab(): Promise<Tab>;
  close(): Promise<void>;
  /** Playwright's own, where there is one. */
  context?: BrowserContext;
}

export interface Engine {
  name: string;
  visitor(): Promise<Visitor>;
  close(): Promise<void>;
}

export const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const FIREFOX = process.env["FIREFOX"] ?? "/usr/bin/firefox-esr";
export const hasFirefox = existsSync(FIREFOX);

export const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

export const openChromium = async (): Promise<Engine> => {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: QUIET,
    // Playwright turns off what a visitor's browser has.
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });
  return {
    name: "chromium",
    async visitor() {
      const context = await browser.newContext();
      return {
        context,
        async tab() {
          const page = await context.newPage();
          return {
            goto: (url, options) => page.goto(url, options),
            evaluate: (action, ...args) =>
              page.evaluate(([source, given]) => (0, eval)(`(${source})`)(...given), [`${action}`, args] as const),
            // A page from the back/forward cache never loads again.
            back: () => page.goBack({ waitUntil: "commit" }),
            close: () => page.close({ runBeforeUnload: false }),
          };
        },
        close: () => context.close(),
      };
    },
    close: () => browser.close(),
  };
};

export const openFirefox = async (): Promise<Engine> => {
  const browser = await puppeteer.launch({ browser: "firefox", executablePath: FIREFOX, headless: true });
  return {
    name: "firefox",
    async visitor() {
      const context = await browser.createBrowserContext();
      return {
        async tab() {
          const page = await context.newPage();
          return {
            goto: (url, options) => page.goto(url, options),
            evaluate: (action, ...args) =>
              page.evaluate((source, given) => (0, eval)(`(${source})`)(...given), `${action}`, args as unknown as never[]),
            back: () => page.evaluate(() => history.back()),
            close: () => page.close(),
          };
        },
        close: () => context.close(),
      };
    },
    close: () => browser.close(),
  };
};
