import { defineConfig } from "vitest/config";

export default defineConfig({
  define: { SDK_VERSION: JSON.stringify("test") },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // One browser at a time: the machines that run this are small.
    fileParallelism: false,
  },
});
