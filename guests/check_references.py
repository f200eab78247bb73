#!/usr/bin/env python3
"""Runs every guests/**/reference.py: compares the committed modules with outside implementations.

The outside implementations are pinned in guests/reference-requirements.txt and installed once into a virtual
environment below target/. This takes minutes and is no part of the test suite.

    python guests/check_references.py                             with this project's own runner
    python guests/check_references.py --runner "wasmtime run"     with another one
    python guests/check_references.py canny polybench             only the guests below these folders
"""

import argparse
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # keeps guests/ free of __pycache__
from build import GUESTS, ROOT, TARGET, BuildError, install_tools

TOOLS = TARGET / "guest-references"


def main():
    options = parse_arguments()
    try:
        scripts = select(sorted(GUESTS.rglob("reference.py")), options.names)
        install_tools(TOOLS, GUESTS / "reference-requirements.txt")
    except BuildError as error:
        sys.exit(f"check_references.py: {error}")
    failed = [script for script in scripts if not agrees(script, options.runner)]
    print(f"{len(scripts) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compares the guests with outside implementations")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a folder below guests/ (default: all)")
    parser.add_argument("--runner", default="target/release/remuda run --", metavar="COMMAND",
                        help="runs a module, as COMMAND FILE.wasm ARGS; from the root of the project (default: %(default)s)")
    return parser.parse_args()


def select(scripts, names):
    if not names:
        return scripts
    chosen = []
    for name in names:
        folder = GUESTS / name.rstrip("/").removeprefix("guests/")
        found = [s for s in scripts if folder == s.parent or folder in s.parent.parents]
        if not found:
            raise BuildError(f"{name}: no reference.py in this folder or below it")
        chosen += [s for s in found if s not in chosen]
    return chosen


def agrees(script, runner):
    print(f"-- {script.parent.relative_to(GUESTS).as_posix()}", flush=True)
    python = str(TOOLS / "bin" / "python")
    return subprocess.run([python, "-B", str(script), "--runner", runner], cwd=ROOT).returncode == 0


if __name__ == "__main__":
    main()
