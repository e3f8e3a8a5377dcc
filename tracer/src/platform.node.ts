/**
 * What surrounds the tracer in Node. `platform.browser.ts` has the same names; the build chooses (`#platform`).
 *
 * Belongs here: what stands in for the browser's storage, locks and beacons. Does not belong here: the public functions.
 */
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ChartEvent, NodeConfig, Payload } from "./types.js";

/** A Storage whose items are files of a folder. As in a browser's, the keys are the object's own enumerable ones. */
class FolderStorage {
  [key: string]: unknown;

  constructor(folder: string) {
    mkdirSync(folder, { recursive: true });
    const fileOf = (key: string) => join(folder, encodeURIComponent(key));
    const hidden = {
      getItem: (key: string) => this[key] ?? null,
      setItem: (key: string, value: string) => {
        const file = fileOf(key);
        // Renamed when whole: a process killed while writing leaves no half an event.
        writeFileSync(`${file}.tmp`, value);
        renameSync(`${file}.tmp`, file);
        this[key] = value;
      },
      removeItem: (key: string) => {
        rmSync(fileOf(key), { force: true });
        delete this[key];
      },
    };
    for (const [name, value] of Object.entries(hidden)) Object.defineProperty(this, name, { value });
    for (const name of readdirSync(folder))
      if (!name.endsWith(".tmp")) this[decodeURIComponent(name)] = readFileSync(join(folder, name), "utf8");
  }
}

/** Whether events belong to visits of one visitor. */
export let visits = false;

export const storageOf = (config: NodeConfig): Storage | undefined => {
  visits = config.visits == true;
  return config.folder ? (new FolderStorage(config.folder) as unknown as Storage) : undefined;
};

export const locks: LockManager | undefined = undefined;

export const gone = () => new Promise<void>(() => {});

export const denied: boolean | undefined = false;

export const context = (): Payload["ctx"] => ({});

export const beacon = (_url: string, _body: string) => false;

export const decided = (_url?: string, _event?: ChartEvent) => {};
