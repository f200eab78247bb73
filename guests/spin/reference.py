#!/usr/bin/env python3
"""Compares the spin guest with powers of xorshift64's matrix: a step is linear over the field of two elements.

So n steps are the n-th power of a matrix of 64 by 64 bits, which takes log n products and none of the steps.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

GUEST = Path(__file__).resolve().parent / "spin.wasm"
START = 0x9E3779B97F4A7C15
BITS = 64
ITERATIONS = [0, 1, 2, 63, 64, 65, 12_345, 1_000_000, 50_000_000]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    command = shlex.split(parser.parse_args().runner) + [str(GUEST), "--iterations"]
    same = sum(answer(command, n) == times(power(n), START) for n in ITERATIONS)
    print(f"spin: {same} of {len(ITERATIONS)} states are those of the matrix, up to {max(ITERATIONS):,} iterations")
    sys.exit(0 if same == len(ITERATIONS) else 1)


def answer(command, n):
    return int(subprocess.run([*command, str(n)], stdout=subprocess.PIPE, check=True).stdout)


# A matrix is the list of its columns, and a column or a vector is a number.

def power(n):
    result = [1 << i for i in range(BITS)]
    square = product(shift(right=0, left=17), product(shift(right=7, left=0), shift(right=0, left=13)))
    while n:
        if n & 1:
            result = product(square, result)
        square = product(square, square)
        n >>= 1
    return result


def shift(right, left):
    """x ^ (x << left), or x ^ (x >> right)."""
    return [(1 << i) ^ ((1 << i) >> right if right else (1 << i << left) % (1 << BITS)) for i in range(BITS)]


def product(a, b):
    return [times(a, column) for column in b]


def times(matrix, vector):
    result = 0
    for i in range(BITS):
        if vector >> i & 1:
            result ^= matrix[i]
    return result


if __name__ == "__main__":
    main()
