#!/usr/bin/env python3
"""Compares the sha256 guest with Python's hashlib, at every length around a block's padding and at some large ones."""

import argparse
import hashlib
import random
import shlex
import subprocess
import sys
from pathlib import Path

GUEST = Path(__file__).resolve().parent / "sha256.wasm"
LENGTHS = [*range(0, 130), 1000, 65535, 65536, 65537, 1_000_003]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    command = shlex.split(parser.parse_args().runner) + [str(GUEST)]
    noise = random.Random(180)
    same = sum(digest(command, data) == hashlib.sha256(data).hexdigest() for data in map(noise.randbytes, LENGTHS))
    print(f"sha256: {same} of {len(LENGTHS)} digests are hashlib's")
    sys.exit(0 if same == len(LENGTHS) else 1)


def digest(command, data):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout.decode().strip()


if __name__ == "__main__":
    main()
