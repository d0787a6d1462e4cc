import { resolve } from "node:path";

export default {
  logLevel: "error",
  resolve: { alias: { "@partium/js-sdk": resolve(import.meta.dirname, "partium-js-sdk.js") } },
  build: { rollupOptions: { input: process.env.ENTRY, output: { entryFileNames: "bundle.js" } }, outDir: process.env.OUT, emptyOutDir: true },
};
