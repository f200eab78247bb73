// A worker that runs guests in V8: the worker's side of the protocol in docs/workers.md. Node.js runs this text with
// nothing but a socket to the host, which is file descriptor 0.
//
// Guests are stopped by SIGINT: `breakOnSigint` then ends whatever JavaScript or WebAssembly is running. As nothing
// may follow such an end but its report, `state` says whether it fell into a guest's code. If it fell into code of this
// file, the worker exits, since it may have been in the middle of a frame.
'use strict';

const fs = require('node:fs');
const vm = require('node:vm');

const PROTOCOL = 2;
const SOCKET = 0;

const ORDER = { LINK: 1, COMPILE: 2, FORGET: 3, INSTANTIATE: 4, CALL: 5, RETURN: 6, UNWIND: 7, DROP: 8 };
const REPORT = { HELLO: 64, COMPILED: 65, REFUSED: 66, READY: 67, IMPORT: 68, RETURNED: 69, ENDED: 70 };
const TYPE = { I32: 0, I64: 1 };
const END = {
  UNWOUND: 0,
  INTERRUPTED: 1,
  UNREACHABLE: 2,
  MEMORY_OUT_OF_BOUNDS: 3,
  TABLE_OUT_OF_BOUNDS: 4,
  DIVISION_BY_ZERO: 5,
  INTEGER_OVERFLOW: 6,
  BAD_CONVERSION: 7,
  BAD_SIGNATURE: 8,
  STACK_EXHAUSTED: 9,
  OTHER_TRAP: 10,
  OUT_OF_MEMORY: 11,
};

// V8's texts for traps, from `wasm/wasm-opcodes` and `common/message-template.h`, as far as a guest can cause them.
const TRAPS = [
  ['unreachable', END.UNREACHABLE],
  ['memory access out of bounds', END.MEMORY_OUT_OF_BOUNDS],
  ['data segment', END.MEMORY_OUT_OF_BOUNDS],
  ['table index is out of bounds', END.TABLE_OUT_OF_BOUNDS],
  ['table access out of bounds', END.TABLE_OUT_OF_BOUNDS],
  ['element segment', END.TABLE_OUT_OF_BOUNDS],
  ['table initializer', END.TABLE_OUT_OF_BOUNDS],
  ['divide by zero', END.DIVISION_BY_ZERO],
  ['remainder by zero', END.DIVISION_BY_ZERO],
  ['divide result unrepresentable', END.INTEGER_OVERFLOW],
  ['float unrepresentable in integer range', END.BAD_CONVERSION],
  ['null function or function signature mismatch', END.BAD_SIGNATURE],
];

// The most bytes that one call of the host takes from the guest's memory: as many as the host copies for a call.
const READ_BYTES_MAX = 128 * 1024 * 1024;

// ---------------------------------------------------------------------------------------------------------------------
// Frames: a length of 4 bytes, which counts what follows it, a byte for the kind, and the rest. All numbers are
// little-endian.

let input = Buffer.allocUnsafe(64 * 1024);
let inputView = new DataView(input.buffer, input.byteOffset, input.length);
let inputEnd = 0;
// Where the next frame begins; where the current one is being read, and where it ends.
let next = 0;
let at = 0;
let end = 0;

function fill(bytes) {
  if (input.length - next < bytes) {
    const larger = input.length < bytes ? Buffer.allocUnsafe(Math.max(bytes, 2 * input.length)) : input;
    input.copy(larger, 0, next, inputEnd);
    inputEnd -= next;
    next = 0;
    if (larger !== input) {
      input = larger;
      inputView = new DataView(input.buffer, input.byteOffset, input.length);
    }
  }
  while (inputEnd - next < bytes) {
    let read;
    try {
      read = fs.readSync(SOCKET, input, inputEnd, input.length - inputEnd, null);
    } catch (error) {
      if (error.code === 'EINTR') continue;
      process.reallyExit(1);
    }
    // The host has gone.
    if (read === 0) process.reallyExit(0);
    inputEnd += read;
  }
}

// Waits for a frame, and returns its kind.
function receive() {
  fill(4);
  const bytes = inputView.getUint32(next, true);
  fill(4 + bytes);
  at = next + 4;
  end = at + bytes;
  next = end;
  return input[at++];
}

function u8() {
  return input[at++];
}

function u16() {
  at += 2;
  return inputView.getUint16(at - 2, true);
}

function u32() {
  at += 4;
  return inputView.getUint32(at - 4, true);
}

function text() {
  const bytes = u32();
  at += bytes;
  return input.toString('utf8', at - bytes, at);
}

let output = Buffer.allocUnsafe(64 * 1024);
let outputView = new DataView(output.buffer, output.byteOffset, output.length);
let written = 0;

function reserve(bytes) {
  if (output.length - written < bytes) {
    const larger = Buffer.allocUnsafe(Math.max(written + bytes, 2 * output.length));
    output.copy(larger, 0, 0, written);
    output = larger;
    outputView = new DataView(output.buffer, output.byteOffset, output.length);
  }
}

function begin(kind) {
  output[4] = kind;
  written = 5;
}

function putU8(value) {
  reserve(1);
  output[written++] = value;
}

function putU32(value) {
  reserve(4);
  outputView.setUint32(written, value, true);
  written += 4;
}

function putText(value) {
  const bytes = Buffer.byteLength(value);
  putU32(bytes);
  reserve(bytes);
  output.write(value, written);
  written += bytes;
}

function send() {
  outputView.setUint32(0, written - 4, true);
  for (let sent = 0; sent < written; ) {
    try {
      sent += fs.writeSync(SOCKET, output, sent, written - sent, null);
    } catch (error) {
      if (error.code !== 'EINTR') process.reallyExit(1);
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Functions of the host

const HOST = 0;
const GUEST = 1;
// Whose code is running.
let state = HOST;

// What `UNWIND` throws. No guest can catch it: the host gives a worker no module with exceptions.
const UNWOUND = { name: 'Unwound', message: '' };

const modules = new Map();
const imports = {};
// The one instance: its exports, its memory, and whether the memory is there for the host's functions, too.
let instance = null;
let memory = null;
let exportsMemory = false;

// Sends a part of the memory as a span. Returns whether there was room for it.
function putSpan(bytes, from, count) {
  if (written + count > READ_BYTES_MAX) return false;
  reserve(8 + count);
  putU32(from);
  putU32(count);
  output.set(bytes.subarray(from, from + count), written);
  written += count;
  return true;
}

// Adds what a call may read of the memory to the frame. What does not lie within the memory is left out: the host sees
// by itself that it does not. Returns whether there was room for everything.
function putReads(reads, args, bytes) {
  for (const { gathered, at, count, itemBytes } of reads) {
    const from = args[at] >>> 0;
    const length = Math.min((args[count] >>> 0) * itemBytes, bytes.length - from);
    if (length <= 0) continue;
    if (!putSpan(bytes, from, length)) return false;
    if (!gathered) continue;
    const vectors = new DataView(bytes.buffer, from, length);
    for (let vector = 0; vector + 8 <= length; vector += 8) {
      const pointer = vectors.getUint32(vector, true);
      const count = vectors.getUint32(vector + 4, true);
      if (pointer + count > bytes.length || count === 0) continue;
      if (!putSpan(bytes, pointer, count)) return false;
    }
  }
  return true;
}

const NO_MEMORY = new Uint8Array(0);

function hostFunction(index, params, returns, reads) {
  return (...args) => {
    state = HOST;
    const bytes = exportsMemory ? new Uint8Array(memory.buffer) : NO_MEMORY;
    begin(REPORT.IMPORT);
    reserve(8 + 8 * params.length);
    outputView.setUint16(written, index, true);
    // A memory has 65536 pages at most, which as bytes would not fit 32 bits.
    outputView.setUint32(written + 2, bytes.length / 65536, true);
    written += 6;
    const complete = written++;
    for (let i = 0; i < params.length; i++) {
      if (params[i] === TYPE.I64) {
        outputView.setBigInt64(written, args[i], true);
      } else {
        outputView.setInt32(written, args[i], true);
        outputView.setInt32(written + 4, 0, true);
      }
      written += 8;
    }
    const isComplete = putReads(reads, args, bytes);
    // Only now: `output` may be another buffer than before.
    output[complete] = isComplete ? 1 : 0;
    send();
    if (receive() !== ORDER.RETURN) throw UNWOUND;
    const result = u32() | 0;
    while (at < end) {
      const to = u32();
      const count = u32();
      bytes.set(input.subarray(at, at + count), to);
      at += count;
    }
    state = GUEST;
    return returns ? result : undefined;
  };
}

function link() {
  const count = u16();
  for (let index = 0; index < count; index++) {
    const module = text();
    const name = text();
    const params = Array.from({ length: u8() }, u8);
    const returns = u8() === 1;
    const reads = Array.from({ length: u8() }, () => {
      return { gathered: u8() === 1, at: u8(), count: u8(), itemBytes: u8() };
    });
    (imports[module] ??= {})[name] = hostFunction(index, params, returns, reads);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Guests

function refuse(error) {
  begin(REPORT.REFUSED);
  putText(String(error?.message ?? error));
  send();
}

function compile() {
  const id = u32();
  // The number of threads is V8's own affair.
  u8();
  try {
    modules.set(id, new WebAssembly.Module(input.subarray(at, end)));
  } catch (error) {
    refuse(error);
    return;
  }
  begin(REPORT.COMPILED);
  send();
}

// Whether the host has had to be asked for more memory than it grants: the guest counts that itself.
function refusedGrowth() {
  return instance?.exports['\0remuda refused']?.value ? 1 : 0;
}

function reportEnd(kind, detail) {
  begin(REPORT.ENDED);
  putU8(kind);
  putU8(refusedGrowth());
  putText(detail);
  send();
}

function ended(error) {
  if (error === UNWOUND) {
    reportEnd(END.UNWOUND, '');
  } else if (error instanceof WebAssembly.RuntimeError) {
    const trap = TRAPS.find(([words]) => error.message.includes(words));
    reportEnd(trap ? trap[1] : END.OTHER_TRAP, trap ? '' : error.message);
  } else if (error instanceof RangeError && error.message.startsWith('Maximum call stack size')) {
    reportEnd(END.STACK_EXHAUSTED, '');
  } else if (error instanceof RangeError) {
    reportEnd(END.OUT_OF_MEMORY, error.message);
  } else {
    refuse(error);
  }
}

function instantiate() {
  const module = modules.get(u32());
  const hasMemory = u8() === 1;
  exportsMemory = u8() === 1;
  const initial = u32();
  const maximum = u32();
  try {
    if (hasMemory) {
      memory = new WebAssembly.Memory({ initial, maximum });
      imports.remuda = { memory };
    }
    state = GUEST;
    instance = new WebAssembly.Instance(module, imports);
    state = HOST;
  } catch (error) {
    state = HOST;
    ended(error);
    return;
  }
  begin(REPORT.READY);
  send();
}

function argument() {
  const type = u8();
  at += 8;
  return type === TYPE.I64 ? inputView.getBigInt64(at - 8, true) : inputView.getInt32(at - 8, true);
}

function call() {
  const name = text();
  const args = Array.from({ length: u16() }, argument);
  const types = Array.from({ length: u16() }, u8);
  let results;
  try {
    state = GUEST;
    results = instance.exports[name](...args);
    state = HOST;
  } catch (error) {
    state = HOST;
    ended(error);
    return;
  }
  if (types.length === 1) results = [results];
  begin(REPORT.RETURNED);
  putU8(refusedGrowth());
  reserve(2 + 8 * types.length);
  outputView.setUint16(written, types.length, true);
  written += 2;
  types.forEach((type, i) => {
    outputView.setBigInt64(written, type === TYPE.I64 ? results[i] : BigInt(results[i]), true);
    written += 8;
  });
  send();
}

function drop() {
  instance = null;
  memory = null;
  delete imports.remuda;
}

globalThis.serve = () => {
  for (;;) {
    switch (receive()) {
      case ORDER.LINK:
        link();
        break;
      case ORDER.COMPILE:
        compile();
        break;
      case ORDER.FORGET:
        modules.delete(u32());
        break;
      case ORDER.INSTANTIATE:
        instantiate();
        break;
      case ORDER.CALL:
        call();
        break;
      case ORDER.DROP:
        drop();
        break;
      default:
        process.reallyExit(1);
    }
  }
};

// V8 sets up its WebAssembly when the first module comes. That is done now, while nobody waits for a guest: an instance
// of `(module (import "" "m" (memory 1)) (func (export "f")))` is made and called.
const FIRST = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 2, 7, 1, 0, 1, 109, 2, 0, 1, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 4, 1,
  2, 0, 11,
];
const first = new WebAssembly.Memory({ initial: 1, maximum: 1 });
new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(FIRST)), { '': { m: first } }).exports.f();

begin(REPORT.HELLO);
putU32(PROTOCOL);
putText(process.versions.node);
putText(process.versions.v8);
send();

const script = new vm.Script('serve()', { filename: 'worker' });
for (;;) {
  try {
    script.runInThisContext({ breakOnSigint: true });
  } catch (error) {
    if (error?.code !== 'ERR_SCRIPT_EXECUTION_INTERRUPTED' || state !== GUEST) process.reallyExit(1);
    state = HOST;
    reportEnd(END.INTERRUPTED, '');
  }
}
