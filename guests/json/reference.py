#!/usr/bin/env python3
"""Compares the json guest with Python's json module on documents that were damaged at random.

Where Python is laxer than RFC 8259 (NaN and Infinity), it is made strict. Its answer counts as "accepted" if it reads
the bytes as UTF-8 and parses them; the guest must agree, and what it prints must mean the same.
"""

import argparse
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROUNDS = 400
SNIPPETS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u00e9", b"0", b"-", b".5", b"e3", b"true", b"nul", b" ",
            b"\n", b"\t", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc3", b"\xc3\xa9", b"\xf0\x9f\x8e\xb9", b"NaN", b"'", b"/", b"a", b"7", b"42"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    command = shlex.split(parser.parse_args().runner) + [str(HERE / "json.wasm")]
    noise = random.Random(8259)
    seeds = [(HERE / "input" / name).read_bytes() for name in ("small.json", "edge.json")]
    accepted = differ = 0
    for round in range(ROUNDS):
        document = damaged(noise, noise.choice(seeds)) if round % 4 else small(noise)
        expected = python_reads(document)
        accepted += expected is not None
        if not agrees(command, document, expected):
            differ += 1
            print(f"json: differs from Python on {document[:200]!r}", file=sys.stderr)
    print(f"json: {ROUNDS} documents, of which Python accepts {accepted}; {differ} differ")
    sys.exit(1 if differ else 0)


def damaged(noise, document):
    data = bytearray(document)
    for _ in range(noise.choice((1, 1, 2, 5))):
        at = noise.randrange(len(data))
        data[at:at + noise.randrange(3)] = noise.choice(SNIPPETS)
    return bytes(data)


def small(noise):
    """A few tokens in a row: now and then that is a document."""
    return b"".join(noise.choice(SNIPPETS + [b"1", b'"a"', b"[1]", b'{"a":1}']) for _ in range(noise.randrange(1, 5)))


def python_reads(document):
    """The value in a list, so that null is not None; or None if it is no document."""
    try:
        return [json.loads(document.decode("utf-8"), parse_constant=refuse)]
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None


def refuse(name):
    raise ValueError(name)


def agrees(command, document, expected):
    result = subprocess.run(command, input=document, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if expected is None:
        return result.returncode == 1 and result.stdout == b""
    return result.returncode == 0 and python_reads(result.stdout) == expected


if __name__ == "__main__":
    main()
