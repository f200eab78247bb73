#!/usr/bin/env python3
"""Writes the tables of guests/README.md: what every guest.toml says, the sizes of the modules, and measured times.

Needs Python 3.11, a C compiler and the release build of remuda (cargo build --release). The times are kept, run by run,
in guests/measurements.json, so that everything else can be renewed without them.

    python guests/table.py                 build the native twins, measure every guest, write the tables
    python guests/table.py canny           measure only these guests again; as build.py names them
    python guests/table.py --keep-times    write the tables with the times that were measured before
    python guests/table.py --check         the same, but only say whether the tables are up to date
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True  # keeps guests/ free of __pycache__
from build import GUESTS, ROOT, TARGET, BuildError, is_generated, load_guests, select

README = GUESTS / "README.md"
MEASUREMENTS = GUESTS / "measurements.json"
BEGIN, END = "<!-- begin: guests/table.py -->\n", "<!-- end: guests/table.py -->"

ENGINE = "wasmtime.cranelift"
CASE_TIME_MAX_S = 10
RUNS_MAX = 5
RUNS_TOTAL_S = 3  # a case that takes long is run less often

# The suites that are measured; traps and the guests that try WASI's calls have tables of their own.
SUITES = {"edge": "Edge applications", "polybench": "PolyBench kernels", "matmul": "Matrix product", "micro": "Small guests"}


def main():
    options = parse_arguments()
    try:
        guests = load_guests()
        measurements = read_measurements()
        if not (options.keep_times or options.check):
            measured = [guest for guest in select(guests, options.names) if told(guest)["suite"] in SUITES and guest.has_native_twin]
            measure_all(measured, measurements, options)
        text = with_tables(README.read_text("utf-8"), tables(guests, measurements))
    except (BuildError, OSError) as error:
        sys.exit(f"table.py: {error}")
    if options.check:
        if text != README.read_text("utf-8"):
            sys.exit("table.py: guests/README.md is out of date; run 'python guests/table.py --keep-times'")
        return
    README.write_text(text, "utf-8")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Writes the tables of guests/README.md")
    parser.add_argument("names", nargs="*", metavar="NAME", help="measure only this guest, or the guests below this folder (default: all)")
    parser.add_argument("--remuda", default="target/release/remuda", metavar="PROGRAM", help="default: %(default)s")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--keep-times", action="store_true", help="measure nothing")
    mode.add_argument("--check", action="store_true", help="measure and write nothing; exit code 1 if the tables are out of date")
    return parser.parse_args()


def read_measurements():
    if not MEASUREMENTS.is_file():
        return {"machine": None, "guests": {}}
    return json.loads(MEASUREMENTS.read_text("utf-8"))


# ---- measuring ----

def measure_all(guests, measurements, options):
    build_twins(guests)
    remuda = Remuda(ROOT / options.remuda)
    here = machine(remuda)
    if measurements["machine"] != here:
        if options.names and measurements["machine"] is not None:
            raise BuildError("the other times come from another machine, compiler or version; measure all guests: name none")
        measurements.update(machine=here, guests={})
    for guest in guests:
        result = measure(guest, remuda)
        if result is None:
            continue
        measurements["guests"][guest.name] = result
        print(f"{guest.id} {result['case']}: native {shown(min(result['native_s']))}, {ENGINE} {shown(min(result['execute_s']))}", flush=True)
        # After every guest, so that nothing is lost when the next one fails.
        MEASUREMENTS.write_text(json_lines(measurements), "utf-8")


def build_twins(guests):
    if guests:
        command = [sys.executable, "-B", str(GUESTS / "build.py"), "--native", *(guest.id for guest in guests)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def machine(remuda):
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "native_compiler": first_line(["cc", "--version"]),
            "remuda": remuda.version, ENGINE: remuda.engine_version}


def cpu_name():
    """The model's name, with its numbers, because virtual machines often shorten the name."""
    text = Path("/proc/cpuinfo").read_text()
    fields = {key: value for key, value in re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE)}
    if "model name" not in fields:
        return os.uname().machine
    numbers = [f"{what} {fields[key]}" for key, what in (("cpu family", "family"), ("model", "model")) if key in fields]
    return f"{fields['model name'].strip()} ({', '.join(numbers)})"


def first_line(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def measure(guest, remuda):
    """The largest case, which is the one that takes longest below the limit; or None if there is none."""
    runs = [(repeated(lambda: remuda.execute_s(guest, case)), case) for case in guest.cases if case.get("exit_code") == 0]
    fitting = [(seconds, case) for seconds, case in runs if seconds]
    if not fitting:
        return None
    execute_s, case = max(fitting, key=lambda pair: min(pair[0]))
    return {"case": case["name"], "load_average": round(os.getloadavg()[0], 1),
            "native_s": repeated(lambda: native_s(guest, case)), "execute_s": execute_s}


def repeated(run):
    """What some runs took; nothing if the first one reached the limit."""
    seconds = []
    while len(seconds) < RUNS_MAX and sum(seconds) < RUNS_TOTAL_S:
        again = run()
        if again is None:
            break
        seconds.append(round(again, 6))
    return seconds


def native_s(guest, case):
    """The whole process, its start included: the noop guest shows what that is."""
    begin = time.perf_counter()
    result = run([str(TARGET / "native" / guest.name), *case.get("args", [])], guest, case)
    seconds = time.perf_counter() - begin
    if result.returncode != 0:
        raise BuildError(f"{guest.id}: case {case['name']!r}: the native twin ends with exit code {result.returncode}")
    if result.stdout != expected(guest, case):
        print(f"table.py: {guest.id}: case {case['name']!r}: the native twin answers otherwise", file=sys.stderr)
    return seconds


def run(command, guest, case):
    """Without an environment, as the expected outputs are for a guest that has none."""
    if "stdin" not in case:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env={})
    if is_generated(guest, case["stdin"]) and not (guest.folder / case["stdin"]).is_file():
        subprocess.run([sys.executable, "-B", str(guest.folder / "make_inputs.py")], check=True)
    with open(guest.folder / case["stdin"], "rb") as stdin:
        return subprocess.run(command, stdin=stdin, capture_output=True, env={})


def expected(guest, case):
    return (guest.folder / case["stdout"]).read_bytes() if "stdout" in case else b""


class Remuda:
    """The command line, with one engine and a data directory of its own."""

    EXECUTE = re.compile(rb"^execute +([0-9.]+) ms$", re.MULTILINE)
    EXIT_TIMED_OUT = 124

    def __init__(self, program):
        if not program.is_file():
            raise BuildError(f"{program}: no such program; build it with 'cargo build --release'")
        self.program = str(program)
        self.version = first_line([self.program, "--version"])
        engines = json.loads(subprocess.run([self.program, "engines", "--json"], capture_output=True, check=True).stdout)
        self.engine_version = next(row["version"] for row in engines if row["engine"] == ENGINE)

    def execute_s(self, guest, case):
        """The phase `execute`, from the guest's first instruction to its last; or None if the limit was reached."""
        command = [self.program, "run", "--engine", ENGINE, "--explain", "--timeout", f"{CASE_TIME_MAX_S}s",
                   "--data-dir", str(TARGET / "guest-table"), str(guest.folder / f"{guest.name}.wasm"), *case.get("args", [])]
        result = run(command, guest, case)
        if result.returncode == self.EXIT_TIMED_OUT:
            return None
        phases = self.EXECUTE.findall(result.stderr)
        if result.returncode != 0 or not phases or result.stdout != expected(guest, case):
            tail = result.stderr.decode(errors="replace")[-1000:]
            raise BuildError(f"{guest.id}: case {case['name']!r} answers otherwise than expected, with exit code {result.returncode}\n{tail}")
        return float(phases[-1]) / 1000


def json_lines(measurements):
    """One line a guest, so that a difference shows which one changed."""
    rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(measurements["guests"].items()))
    return f'{{\n  "machine": {json.dumps(measurements["machine"])},\n  "guests": {{\n{rows}\n  }}\n}}\n'


# ---- the tables ----

def with_tables(text, generated):
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BuildError(f"guests/README.md needs the lines {BEGIN.strip()} and {END}")
    return before + begin + generated + end + after


def tables(guests, measurements):
    parts = [machine_text(**measurements)] if measurements["machine"] else []
    for suite, title in SUITES.items():
        rows = [guest_row(guest, told(guest), measurements["guests"].get(guest.name)) for guest in guests if told(guest)["suite"] == suite]
        parts.append(f"### {title}\n\n" + table(guest_columns(suite), rows))
    calls = [call_row(guest, told(guest)) for guest in guests if told(guest)["suite"] == "wasi"]
    parts.append("### WASI\n\n" + table(["Guest", "What it does", "Bytes"], calls))
    traps = [trap_row(guest, told(guest)) for guest in guests if told(guest)["suite"] == "trap"]
    parts.append("### Traps\n\n" + table(["Kind", "What it does", "Forms", "Bytes"], traps))
    return "\n" + "\n".join(parts) + "\n"


@functools.cache
def told_by(path):
    return tomllib.loads(path.read_text("utf-8"))


def told(guest):
    return told_by(guest.folder / "guest.toml")


def machine_text(machine, guests):
    loads = [row["load_average"] for row in guests.values()]
    return (f"Times: {machine['cpu']}, {machine['cores']} cores, load average {min(loads)} to {max(loads)}; {machine['remuda']}, "
            f"{ENGINE} {machine[ENGINE]}; native twins by `{machine['native_compiler']}`. `measurements.json` has every run.\n")


# Every kernel of PolyBench makes its input itself and is compared in the same way: its README says it once.
def guest_columns(suite):
    own = [] if suite == "polybench" else ["Input", "Licence of the input", "Reference"]
    return ["Guest", "What it computes", "Algorithm", *own, "Agreement", "Bytes", "Bytes, SIMD", "Case", "Native", ENGINE]


def guest_row(guest, fields, times):
    names = [] if fields["suite"] == "polybench" else ["input", "licence", "reference"]
    cells = [f"`{guest.name}`", fields["summary"], fields["algorithm"], *(fields.get(name, "–") for name in names), fields.get("agreement", "–")]
    cells += [module_bytes(guest, variant) for variant in ("", "simd")]
    if times is None:
        return cells + ["–"] * 3
    return cells + [f"`{times['case']}`", shown(min(times["native_s"])), shown(min(times["execute_s"]))]


def call_row(guest, fields):
    return [f"`{guest.name}`", fields["summary"], module_bytes(guest, "")]


def trap_row(guest, fields):
    sizes = sorted((guest.folder / guest.wasm_name(variant)).stat().st_size for variant in guest.variants)
    forms = ", ".join(f"`{variant.name}`" for variant in guest.variants if variant.name)
    return [f"`{guest.name}`", fields["summary"], f"{len(guest.variants)}: plain, {forms}", f"{sizes[0]:,} to {sizes[-1]:,}"]


def module_bytes(guest, variant_name):
    sizes = [(guest.folder / guest.wasm_name(v)).stat().st_size for v in guest.variants if v.name == variant_name]
    return f"{sizes[0]:,}" if sizes else "–"


def table(columns, rows):
    right = {"Bytes", "Bytes, SIMD", "Native", ENGINE}
    rule = ["---:" if column in right else "---" for column in columns]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in [columns, rule, *rows])


def shown(seconds):
    """Three significant digits, and no digit below a microsecond."""
    if seconds < 1:
        milliseconds = seconds * 1000
        digits = 0 if milliseconds >= 100 else 1 if milliseconds >= 10 else 2 if milliseconds >= 1 else 3
        return f"{milliseconds:.{digits}f} ms"
    return f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
