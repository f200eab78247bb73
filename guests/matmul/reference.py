#!/usr/bin/env python3
"""Compares matmul with numpy, for every case of guest.toml.

i32: the whole product, by its hash, from exact products of 16-bit halves. f64: the sum of all elements against the
BLAS product within a relative 1e-12; up to n = 1000 also the hash, with the products added in the guest's order, to
the bit.

    python guests/matmul/reference.py --runner "wasmtime run"
"""

import argparse
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
SUM_TOLERANCE = 1e-12
HASH_N_MAX = 1000


def main():
    parser = argparse.ArgumentParser(description="Compares matmul with numpy")
    parser.add_argument("--runner", default="target/release/remuda run --", metavar="COMMAND",
                        help="runs a module, as COMMAND FILE.wasm ARGS, from the project's root (default: %(default)s)")
    options = parser.parse_args()
    cases = tomllib.loads((FOLDER / "guest.toml").read_text("utf-8"))["case"]
    results = [compare(shlex.split(options.runner), case["args"]) for case in cases if case["exit_code"] == 0]
    sys.exit(0 if all(results) else 1)


def compare(runner, arguments):
    """Prints one line, and says whether all is well."""
    got = run_guest(runner, arguments)
    n, seed = int(got["n"]), int(got["seed"])
    check = compare_i32 if got["type"] == "i32" else compare_f64
    well, figures = check(got, n, splitmix64(seed, 2 * n * n))
    print(f"matmul {got['type']} n={n:4} seed={seed}  {figures}  {'ok' if well else 'WRONG'}", flush=True)
    return well


def run_guest(runner, arguments):
    command = runner + [str(FOLDER / "matmul.wasm"), *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit code {result.returncode}\n{result.stderr}")
    _, kind, *fields = result.stdout.split()
    return {"type": kind} | dict(field.split("=") for field in fields)


def splitmix64(seed, count):
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def compare_i32(got, n, bits):
    a, b = (bits >> np.uint64(32)).reshape(2, n, n)

    def product(x, y):
        """Of 16-bit numbers: exact in doubles, since n * 2^32 is far below 2^53."""
        return (x.astype(float) @ y.astype(float)).astype(np.uint64)

    high, low = np.uint64(16), np.uint64(0xFFFF)
    middle = product(a >> high, b & low) + product(a & low, b >> high)
    c = (product(a & low, b & low) + (middle << high)).astype(np.uint32)
    total = int(c.view(np.int32).sum(dtype=np.int64))
    same_sum, same_hash = total == int(got["sum"]), fnv1a64(c.astype("<u4")) == got["fnv1a64"]
    return same_sum and same_hash, f"sum {'equal' if same_sum else 'differs'}, hash {'equal' if same_hash else 'differs'}"


def compare_f64(got, n, bits):
    a, b = ((bits >> np.uint64(11)).astype(float) * 2.0**-53).reshape(2, n, n)
    want = (a @ b).sum()
    error = abs(float.fromhex(got["sum"]) - want) / want
    well, figures = error <= SUM_TOLERANCE, f"sum relative error {error:.2e}"
    if n <= HASH_N_MAX:
        c = np.zeros((n, n))
        for k in range(n):
            c += np.outer(a[:, k], b[k])
        same_hash = fnv1a64(c.astype("<f8")) == got["fnv1a64"]
        well, figures = well and same_hash, f"{figures}, hash {'equal' if same_hash else 'differs'}"
    return well, figures


def fnv1a64(array):
    digest = 0xCBF29CE484222325
    for byte in array.tobytes():
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


if __name__ == "__main__":
    main()
