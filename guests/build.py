#!/usr/bin/env python3
"""Builds the guest programs: every guests/**/guest.toml becomes <name>.wasm and one <name>.<variant>.wasm a variant.

Needs Python 3.11 and nothing else. The compiler comes from guests/requirements.txt; it is installed once into a
virtual environment below target/. A guest whose source is WebAssembly text, <name>.wat, has no native twin, and its
variants have texts of their own, <name>.<variant>.wat. The bytes of a module depend on its sources, its guest.toml, the flags below and
the compiler's version, and on nothing else of the machine.

    python guests/build.py                  build all guests
    python guests/build.py canny polybench  build the guests below these folders
    python guests/build.py --check          rebuild below target/, compare with the committed bytes, check the cases' files
    python guests/build.py --native         build the native twins, target/native/<name>
                                            (--native-target: for other processors, target/native-<target>/<name>)
"""

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

GUESTS = Path(__file__).resolve().parent
ROOT = GUESTS.parent
TARGET = ROOT / "target"
TOOLS = TARGET / "guest-tools"
ZIG = [str(TOOLS / "bin" / "python"), "-m", "ziglang", "cc"]

COMMON_FLAGS = ["-O3", "-std=c17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
# The linker would give 16 MiB of stack, which every instance then pays for on an engine that clears memory at once.
# A guest that needs more says so with the same flag.
STACK_FLAG = "-Wl,-z,stack-size=262144"
WASM_FLAGS = ["--target=wasm32-wasi", "-mcpu=lime1", "-s", STACK_FLAG, f"-ffile-prefix-map={ROOT}=."]
# Flags in a guest.toml that mean nothing to the compiler of the native twins.
REACTOR_FLAG = "-mexec-model=reactor"
WASM_ONLY_FLAGS = {REACTOR_FLAG, "-nostdlib"}

SUITES = {"edge", "polybench", "matmul", "micro", "trap", "wasi"}
TIERS = {"test", "bench"}
TRAPS = {
    "unreachable", "memory_out_of_bounds", "table_out_of_bounds", "integer_division_by_zero", "integer_overflow",
    "bad_conversion_to_integer", "indirect_call_to_null", "bad_signature", "stack_exhausted", "interrupted",
}


class BuildError(Exception):
    """Something that the author of a guest can mend; shown without a stack trace."""


@dataclass
class Variant:
    """One way to compile a guest. The plain one has no name."""
    name: str
    flags: list


@dataclass
class Guest:
    folder: Path
    name: str
    suite: str
    sources: list
    flags: list
    cases: list
    variants: list = field(default_factory=list)
    # The world of wit/world.wit, for a guest that is a component.
    world: str = ""

    @property
    def id(self):
        return self.folder.relative_to(GUESTS).as_posix()

    def wasm_name(self, variant):
        return f"{self.name}.{variant.name}.wasm" if variant.name else f"{self.name}.wasm"

    @property
    def is_text(self):
        return any(source.endswith(".wat") for source in self.sources)

    def text_name(self, variant):
        return str(Path(self.wasm_name(variant)).with_suffix(".wat"))

    @property
    def has_native_twin(self):
        # A reactor has no main function, and a guest that calls WASI's functions by name needs a host that has them.
        return not self.is_text and REACTOR_FLAG not in self.flags and self.suite != "wasi" and not self.world


# ---- what there is to build ----

def main():
    options = parse_arguments()
    try:
        guests = select(load_guests(), options.names)
        if options.native:
            outcomes = build_native(guests, options)
        else:
            outcomes = build_wasm(guests, options)
        problems = [problem for outcome in outcomes for problem in outcome]
        if options.check:
            problems += [problem for guest in guests for problem in missing_case_files(guest)]
            if not options.names:
                problems += unclaimed_modules(guests)
    except BuildError as error:
        sys.exit(f"build.py: {error}")
    finally:
        shutil.rmtree(scratch_folder(), ignore_errors=True)
    for problem in problems:
        print(f"build.py: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Builds the guest programs")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a folder below guests/, or the name of a guest (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilations at a time (default: one a core)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="rebuild below target/guest-check and compare with the committed bytes")
    mode.add_argument("--native", action="store_true", help="build the native twins into target/native")
    parser.add_argument("--native-cc", default="cc", metavar="COMMAND",
                        help="compiler of the native twins (default: cc; 'zig' is the one that builds the modules)")
    parser.add_argument("--native-target", metavar="TRIPLE",
                        help="what the native twins are built for, with zig alone, such as aarch64-linux-musl; they go to "
                             "target/native-TRIPLE")
    parser.add_argument("--verbose", action="store_true", help="print each compiler command")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: at least 1")
    if options.native_target and options.native_cc != "zig":
        parser.error("--native-target needs --native-cc zig: other compilers are told their target by their command")
    return options


def load_guests():
    guests = [load_guest(path) for path in sorted(GUESTS.rglob("guest.toml"))]
    folders = {}
    for guest in guests:
        if guest.name in folders:
            raise BuildError(f"{guest.id} and {folders[guest.name]} have the same name: names must differ over all guests")
        folders[guest.name] = guest.id
    return guests


def select(guests, names):
    """The guests named by folder, by a folder above them, or by name; all of them for no names."""
    if not names:
        return guests
    chosen = []
    for name in names:
        wanted = name.rstrip("/").removeprefix("guests/")
        found = [g for g in guests if wanted in (g.id, g.name) or g.id.startswith(wanted + "/")]
        if not found:
            raise BuildError(f"{name}: no such guest; there are: {', '.join(g.id for g in guests)}")
        chosen += [g for g in found if g not in chosen]
    return chosen


def load_guest(path):
    where = path.relative_to(ROOT)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{where}: {error}") from error
    check_keys(where, table, required={"name": str, "suite": str, "summary": str, "algorithm": str, "sources": list},
               optional={"input": str, "licence": str, "reference": str, "agreement": str,
                         "flags": list, "component": str, "variant": list, "case": list})
    folder = path.parent
    if table["name"] != folder.name:
        raise BuildError(f"{where}: name = {table['name']!r}, but the folder is {folder.name!r}")
    check_one_of(where, "suite", table["suite"], SUITES)
    for source in table["sources"]:
        if not (folder / source).is_file():
            raise BuildError(f"{where}: source {source!r} does not exist")
    variants = [Variant("", [])] + [load_variant(where, entry) for entry in table.get("variant", [])]
    cases = table.get("case", [])
    for case in cases:
        check_case(where, case)
    check_distinct(where, "variant", [v.name for v in variants])
    check_distinct(where, "case", [c["name"] for c in cases])
    guest = Guest(folder, table["name"], table["suite"], table["sources"], table.get("flags", []), cases, variants,
                  table.get("component", ""))
    if guest.is_text:
        check_texts(where, guest)
    return guest


def check_texts(where, guest):
    plain = guest.text_name(guest.variants[0])
    if guest.sources != [plain]:
        raise BuildError(f"{where}: sources = {guest.sources!r}: WebAssembly text stands alone, as {plain!r}")
    if guest.flags or any(variant.flags for variant in guest.variants):
        raise BuildError(f"{where}: WebAssembly text takes no flags")
    for variant in guest.variants:
        if not (guest.folder / guest.text_name(variant)).is_file():
            raise BuildError(f"{where}: source {guest.text_name(variant)!r} does not exist")


def load_variant(where, entry):
    check_keys(f"{where}: variant", entry, required={"name": str, "flags": list}, optional={})
    return Variant(entry["name"], entry["flags"])


def check_case(where, case):
    place = f"{where}: case {case.get('name', '?')!r}"
    check_keys(place, case, required={"name": str, "tier": str},
               optional={"args": list, "env": list, "stdin": str, "stdout": str, "exit_code": int, "trap": str, "input": str,
                         "dir": list, "open_files_max": int})
    check_one_of(place, "tier", case["tier"], TIERS)
    for entry in case.get("dir", []):
        # A fresh folder that the guest may use: a copy of `files`, with what git does not keep made beside it.
        check_keys(f"{place}: dir {entry.get('name', '?')!r}", entry, required={"name": str},
                   optional={"writable": bool, "files": str, "dirs": list, "links": dict, "fifos": list})
    if ("exit_code" in case) == ("trap" in case):
        raise BuildError(f"{place}: give either exit_code or trap")
    if "trap" in case:
        check_one_of(place, "trap", case["trap"], TRAPS)


def check_keys(place, table, required, optional):
    for key, value in table.items():
        kind = required.get(key) or optional.get(key)
        if kind is None:
            raise BuildError(f"{place}: unknown key {key!r}; known are {', '.join(sorted(required | optional))}")
        if not isinstance(value, kind):
            raise BuildError(f"{place}: {key} = {value!r} is not a {kind.__name__}")
    for key in required:
        if key not in table:
            raise BuildError(f"{place}: {key} is missing")


def check_one_of(place, key, value, allowed):
    if value not in allowed:
        raise BuildError(f"{place}: {key} = {value!r} is none of {', '.join(sorted(allowed))}")


def check_distinct(where, kind, names):
    for name in names:
        if names.count(name) > 1:
            raise BuildError(f"{where}: two {kind}s have the name {name!r}")


def missing_case_files(guest):
    for case in guest.cases:
        for key in ("stdin", "stdout"):
            # A big input below target/ is made by the guest's own script, and only for benchmarks.
            if key in case and not (guest.folder / case[key]).is_file() and not is_generated(guest, case[key]):
                yield f"{guest.id}: case {case['name']!r}: {key} {case[key]!r} does not exist"
        for entry in case.get("dir", []):
            if "files" in entry and not (guest.folder / entry["files"]).is_dir():
                yield f"{guest.id}: case {case['name']!r}: folder {entry['files']!r} does not exist"


def is_generated(guest, path):
    return (guest.folder / path).resolve().is_relative_to(TARGET.resolve())


def unclaimed_modules(guests):
    """Committed modules that no guest.toml makes: left over from a rename, or built by hand."""
    claimed = {guest.folder / guest.wasm_name(variant) for guest in guests for variant in guest.variants}
    folders = {guest.folder for guest in guests}
    for path in sorted(GUESTS.rglob("*.wasm")):
        if path.parent in folders and path not in claimed:
            yield f"{path.relative_to(GUESTS).as_posix()}: no guest.toml makes this module"


# ---- building ----

def build_wasm(guests, options):
    install_tools(TOOLS, GUESTS / "requirements.txt")
    work = [(guest, variant) for guest in guests for variant in guest.variants]
    check = options.check

    def one(item):
        guest, variant = item
        committed = guest.folder / guest.wasm_name(variant)
        output = TARGET / "guest-check" / guest.id / guest.wasm_name(variant) if check else committed
        command = wasm_command(guest, variant)
        problem = compile_to(guest, command, output, options)
        if not problem and guest.world:
            problem = make_component(guest, output, options)
        if problem:
            return [problem]
        if check:
            return list(difference(guest, committed, output))
        print(f"{guest.id}/{output.name}: {output.stat().st_size} bytes", flush=True)
        return []

    return in_parallel(one, work, options.jobs)


def wasm_command(guest, variant):
    if guest.is_text:
        return [str(TOOLS / "bin" / "wasm-tools"), "parse", guest.text_name(variant)]
    return ZIG + WASM_FLAGS + source_flags(guest, guest.flags) + variant.flags + guest.sources


def make_component(guest, output, options):
    """Makes a component of the core module that has been compiled, in its place. Returns what went wrong, or None."""
    wasm_tools = [str(TOOLS / "bin" / "wasm-tools"), "component"]
    module = os.path.relpath(output, guest.folder)
    embed = wasm_tools + ["embed", "wit", module, "--world", guest.world]
    return compile_to(guest, embed, output, options) or compile_to(guest, wasm_tools + ["new", module], output, options)


def build_native(guests, options):
    if options.native_cc == "zig":
        install_tools(TOOLS, GUESTS / "requirements.txt")
        compiler = ZIG + [f"--target={options.native_target or 'x86_64-linux-gnu'}"]
    else:
        compiler = shlex.split(options.native_cc)
    folder = f"native-{options.native_target}" if options.native_target else "native"

    def one(guest):
        output = TARGET / folder / guest.name
        # The maths library comes last: a static linker takes only what is still missing.
        flags = source_flags(guest, [flag for flag in guest.flags if flag not in WASM_ONLY_FLAGS])
        problem = compile_to(guest, compiler + flags + guest.sources + ["-lm"], output, options)
        if problem:
            return [problem]
        print(f"target/{folder}/{guest.name}", flush=True)
        return []

    return in_parallel(one, [guest for guest in guests if guest.has_native_twin], options.jobs)


def in_parallel(function, items, jobs):
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(function, items))


def source_flags(guest, flags):
    # The compiler runs in the guest's folder, so that only relative paths reach it.
    return COMMON_FLAGS + ["-I", os.path.relpath(GUESTS / "common", guest.folder)] + flags


def compile_to(guest, command, output, options):
    """Runs the compiler; the output appears whole or not at all. Returns what went wrong, or None."""
    output.parent.mkdir(parents=True, exist_ok=True)
    # The scratch file keeps the output's name, because a linker may write the name into the file.
    scratch = scratch_folder() / guest.id / output.name
    scratch.parent.mkdir(parents=True, exist_ok=True)
    command = command + ["-o", os.path.relpath(scratch, guest.folder)]
    if options.verbose:
        print(shlex.join(command), flush=True)
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(TARGET / "zig-cache"), "ZIG_LOCAL_CACHE_DIR": str(TARGET / "zig-cache")}
    try:
        result = subprocess.run(command, cwd=guest.folder, env=os.environ | caches, capture_output=True, text=True)
    except FileNotFoundError:
        return f"{command[0]}: no such compiler"
    if result.returncode != 0 or not scratch.is_file():
        return f"{guest.id}: {output.name} does not compile (exit code {result.returncode})\n{result.stderr.strip()}"
    if output.suffix == ".wasm":
        scratch.chmod(0o644)
    os.replace(scratch, output)
    return None


def scratch_folder():
    """The process's own folder, because builds may overlap; below target/, because a compiler may leave files there."""
    return TARGET / "guest-scratch" / str(os.getpid())


def difference(guest, committed, rebuilt):
    name = f"{guest.id}/{committed.name}"
    if not committed.is_file():
        yield f"{name}: not committed; run 'python guests/build.py {guest.id}'"
        return
    old, new = committed.read_bytes(), rebuilt.read_bytes()
    if old == new:
        print(f"{name}: same {len(new)} bytes", flush=True)
        return
    at = next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
    yield f"{name}: committed {len(old)} bytes, rebuilt {len(new)} bytes, first difference at byte {at}"


# ---- the tools ----

def install_tools(folder, requirements):
    """Makes the virtual environment, or renews it when the requirements changed. Several builds may run at a time."""
    stamp = folder / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        print(f"installing {requirements.name} into {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        result = subprocess.run(pip + ["--requirement", str(requirements)], capture_output=True, text=True)
        if result.returncode != 0:
            raise BuildError(f"pip cannot install {requirements.relative_to(ROOT)}\n{result.stderr.strip()}")
        stamp.write_text(wanted)


@contextmanager
def locked(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
