"""Compares unzip.wasm with Python's zipfile and zlib: on the committed archives, and on archives that zipfile makes here.

Stated tolerance: none; contents, sizes and checksums must be equal to the byte.
"""

import argparse
import io
import random
import shlex
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    runner = shlex.split(parser.parse_args().runner)
    committed = [(path.name, path.read_bytes()) for path in sorted((HERE / "input").glob("*.zip")) if not path.name.startswith("hostile-")]
    good = all([compare(runner, name, data) for name, data in committed + list(made_by_zipfile())])
    sys.exit(0 if good else 1)


def compare(runner, name, data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        contents = [archive.read(info) for info in infos]
    same = {
        "content": run(runner, [], data) == b"".join(contents),
        "list": run(runner, ["--list"], data) == b"".join(map(list_line, infos)),
        "crc": run(runner, ["--crc"], data) == b"".join(map(crc_line, infos, contents)),
        "last member": run(runner, ["--member", infos[-1].filename], data) == contents[-1],
    }
    verdict = ", ".join(f"{what} {'same' if equal else 'DIFFERENT'}" for what, equal in same.items())
    print(f"{name}: {len(infos)} members, {len(data)} -> {sum(map(len, contents))} bytes: {verdict}")
    return all(same.values())


def run(runner, args, data):
    command = [*runner, str(HERE / "unzip.wasm"), *args]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout


def list_line(info):
    return f"{info.file_size} {info.compress_size} {METHODS[info.compress_type]} {info.CRC:08x} {info.filename}\n".encode()


def crc_line(info, content):
    return f"{zlib.crc32(content):08x} {len(content)} {info.filename}\n".encode()


def made_by_zipfile():
    """Random members of many kinds and sizes; every second archive goes to a stream, which gives data descriptors."""
    generator = random.Random(20260101)
    for number in range(20):
        buffer = io.BytesIO()
        stream = Unseekable(buffer) if number % 2 else buffer
        with zipfile.ZipFile(stream, "w") as archive:
            for member in range(generator.randrange(1, 8)):
                info = zipfile.ZipInfo(f"folder/é-{member}.bin", (2026, 1, 1, 0, 0, 0))
                method = generator.choice(list(METHODS))
                archive.writestr(info, random_bytes(generator), method, generator.randrange(0, 10))
        yield f"made-{number}.zip", buffer.getvalue()


def random_bytes(generator):
    size = generator.choice([0, 1, 2, 257, 300, 32768, 32769, 70_000, 200_000])
    letters = generator.choice([1, 2, 5, 60, 256])
    # Squares make some letters much more frequent than others, and with that long code words.
    return bytes(int(letters * generator.random() ** 4) for _ in range(size))


class Unseekable(io.RawIOBase):
    """Only takes bytes, like a pipe."""

    def __init__(self, buffer):
        self.buffer = buffer

    def writable(self):
        return True

    def write(self, data):
        return self.buffer.write(data)


if __name__ == "__main__":
    main()
