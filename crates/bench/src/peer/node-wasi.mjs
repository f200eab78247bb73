// Runs a WASI preview 1 command in Node.js: node node-wasi.mjs [--env NAME=VALUE]... MODULE ARGS
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { WASI } from "node:wasi";

const args = process.argv.slice(2);
const env = {};
while (args[0] === "--env") {
    const [, variable] = args.splice(0, 2);
    const end = variable.indexOf("=");
    env[variable.slice(0, end)] = variable.slice(end + 1);
}
const path = args.shift();
const wasi = new WASI({ version: "preview1", args: [basename(path), ...args], env, returnOnExit: true });
const module = await WebAssembly.compile(readFileSync(path));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);
