#!/usr/bin/env python3
"""Compares the fib guest with the Fibonacci numbers by fast doubling: F(2k) and F(2k + 1) follow from F(k) and F(k + 1)."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

GUEST = Path(__file__).resolve().parent / "fib.wasm"
N_MAX = 32  # the guest's recursion takes F(n) steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    command = shlex.split(parser.parse_args().runner) + [str(GUEST)]
    same = sum(answer(command, n) == pair(n)[0] for n in range(N_MAX + 1))
    print(f"fib: {same} of {N_MAX + 1} numbers are those of fast doubling, up to F({N_MAX})")
    sys.exit(0 if same == N_MAX + 1 else 1)


def answer(command, n):
    return int(subprocess.run([*command, str(n)], stdout=subprocess.PIPE, check=True).stdout)


def pair(n):
    """F(n) and F(n + 1)."""
    if n == 0:
        return 0, 1
    f, next_f = pair(n // 2)
    even, odd = f * (2 * next_f - f), f * f + next_f * next_f
    return (odd, even + odd) if n % 2 else (even, odd)


if __name__ == "__main__":
    main()
