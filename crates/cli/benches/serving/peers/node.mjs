// node node.mjs PORT MODULE: answers each request with a fresh instance of a WASI command.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { WASI } from 'node:wasi';

const [port, path] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(path));

createServer((request, response) => {
    const wasi = new WASI({ version: 'preview1', args: ['noop'], returnOnExit: true });
    wasi.start(new WebAssembly.Instance(module, wasi.getImportObject()));
    response.end();
}).listen(Number(port), '127.0.0.1');
