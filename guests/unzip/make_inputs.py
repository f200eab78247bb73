"""Makes input/*.zip: archives of free text, and small hostile ones. Python's standard library only.

The text is Python's own, as the interpreter that runs this script carries it: LICENSE.txt, the language reference in
pydoc_data/topics.py, and modules of the standard library. Copyright Python Software Foundation, PSF License
Version 2; every archive of text contains LICENSE.txt, as the licence asks. The committed files were made by Python
3.11.7 with zlib 1.2.13; another version may pack other bytes.

The archives are written here byte by byte, and not by the zipfile module, so that every kind of block and header
occurs: stored members, all of zlib's strategies (fixed codes, Huffman codes only, runs only), stored blocks inside
deflate, data descriptors with and without signature, extra fields and comments.
"""

import struct
import sysconfig
import zlib
from dataclasses import dataclass
from pathlib import Path

INPUT = Path(__file__).resolve().parent / "input"
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
DOS_DATE = (2026 - 1980) << 9 | 1 << 5 | 1


def main():
    INPUT.mkdir(exist_ok=True)
    for name, data in text_archives():
        (INPUT / name).write_bytes(data)
    for name, data in hostile_archives():
        (INPUT / f"hostile-{name}.zip").write_bytes(data)


# ---- the format ----

@dataclass
class Member:
    name: bytes
    data: bytes
    method: int = 8
    level: int = 9
    strategy: int = zlib.Z_DEFAULT_STRATEGY
    flags: int = 0
    extra: bytes = b""
    comment: bytes = b""
    descriptor: str = ""         # "", "signed" or "bare"
    packed: bytes | None = None  # instead of what `data` would pack to
    size: int | None = None      # instead of the length of `data`
    crc: int | None = None
    local: dict | None = None    # fields of the local header that differ
    start: int | None = None     # offset in the directory, if not the member's

    def __post_init__(self):
        if self.packed is None:
            self.packed = self.data if self.method == 0 else deflated(self.data, self.level, self.strategy)
        self.size = len(self.data) if self.size is None else self.size
        self.crc = zlib.crc32(self.data) if self.crc is None else self.crc
        if self.descriptor:
            self.flags |= 8


def deflated(data, level, strategy):
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    return packer.compress(data) + packer.flush()


def local_header(m):
    late = bool(m.descriptor)
    fields = dict(signature=0x04034B50, version=20, flags=m.flags, method=m.method, crc=0 if late else m.crc,
                  packed_size=0 if late else len(m.packed), size=0 if late else m.size, name=m.name) | (m.local or {})
    return struct.pack("<IHHHHHIIIHH", fields["signature"], fields["version"], fields["flags"], fields["method"], 0, DOS_DATE,
                       fields["crc"], fields["packed_size"], fields["size"], len(fields["name"]), len(m.extra)) + fields["name"] + m.extra


def descriptor(m):
    values = struct.pack("<III", m.crc, len(m.packed), m.size)
    return {"": b"", "bare": values, "signed": b"PK\x07\x08" + values}[m.descriptor]


def entry(m, start):
    return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, m.flags, m.method, 0, DOS_DATE, m.crc, len(m.packed), m.size,
                       len(m.name), len(m.extra), len(m.comment), 0, 0, 0, start if m.start is None else m.start) + m.name + m.extra + m.comment


def end_record(count, size, offset, comment=b"", disk=0):
    return struct.pack("<IHHHHIIH", 0x06054B50, disk, disk, count, count, size, offset, len(comment)) + comment


def archive(members, comment=b""):
    body, directory = b"", b""
    for m in members:
        directory += entry(m, len(body))
        body += local_header(m) + m.packed + descriptor(m)
    return body + directory + end_record(len(members), len(directory), len(body), comment)


# ---- archives of text ----

def text_archives():
    licence = read("LICENSE.txt")
    topics = read("pydoc_data/topics.py")
    yield "licence.zip", archive([
        Member(b"LICENSE.txt", licence),
        Member(b"empty/", b"", method=0),
        Member(b"fixed.txt", licence[:4000], strategy=zlib.Z_FIXED, descriptor="signed"),
        Member(b"stored.txt", licence[4000:5000], method=0, extra=struct.pack("<HH", 0x7875, 4) + b"\1\0\1\0"),
        Member(b"one letter", b"a" * 100_00, level=1, comment=b"a comment"),
        Member(b"blocks.txt", licence[5000:6000], level=0, descriptor="bare"),
        Member(b"nothing", b""),
    ], comment=b"The licence of Python, packed in several ways")
    yield "reference.zip", archive([
        Member(b"LICENSE.txt", licence),
        Member(b"topics-1.txt", topics[:150_000], level=1),
        Member(b"topics-2.txt", topics[150_000:330_000], level=6, descriptor="signed"),
        Member(b"topics-3.txt", topics[330_000:350_000], strategy=zlib.Z_HUFFMAN_ONLY),
        Member(b"topics-4.txt", topics[350_000:370_000], strategy=zlib.Z_RLE),
    ])
    yield "library.zip", archive([Member(b"LICENSE.txt", licence), *library(1_000_000)])


def library(packed_size):
    """Modules of the standard library in alphabetical order, until they come to about this size."""
    total = 0
    for path in sorted(LIBRARY.glob("*.py")):
        if path.name.startswith("_sysconfigdata"):
            continue  # Not part of Python: it tells how and where this interpreter was built.
        member = Member(path.name.encode(), path.read_bytes(), level=9)
        total += len(member.packed)
        if total > packed_size:
            return
        yield member


def read(name):
    return (LIBRARY / name).read_bytes()


# ---- hostile archives ----

TEXT = b"All work and no play makes Jack a dull boy.\n" * 4


def hostile_archives():
    """Each is refused for the reason that its name gives."""
    good = Member(b"a.txt", TEXT)
    whole = archive([good])
    yield "empty", b""
    yield "text", b"This is no archive.\n"
    yield "cut-end", whole[:-1]
    yield "cut-start", whole[10:]
    yield "trailing", whole + b"x"
    yield "directory-missing", archive([])[:-22] + end_record(3, 0, 0)
    yield "directory-short", whole.replace(end_record(1, 51, len(whole) - 73), end_record(2, 51, len(whole) - 73))
    yield "directory-long", whole.replace(end_record(1, 51, len(whole) - 73), end_record(0, 51, len(whole) - 73))
    yield "parts", archive([])[:-22] + end_record(0, 0, 0, disk=1)
    yield "zip64", archive([])[:-22] + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    yield "zip64-locator", struct.pack("<IIQI", 0x07064B50, 0, 0, 1) + end_record(0, 0, 20)
    yield "zip64-size", archive([Member(b"a.txt", TEXT, size=0xFFFFFFFF)])
    yield "encrypted", archive([Member(b"secret.txt", TEXT, flags=1)])
    yield "method", archive([Member(b"a.bz2", TEXT, packed=TEXT, method=12)])
    yield "outside", archive([Member(b"a.txt", TEXT, start=0x7FFFFFFF)])
    yield "no-local-header", archive([Member(b"a.txt", TEXT, start=1)])
    yield "local-name", archive([Member(b"a.txt", TEXT, local={"name": b"b.txt"})])
    yield "local-size", archive([Member(b"a.txt", TEXT, local={"size": 1})])
    yield "overlap", overlapping(good)
    yield "same-data", archive([good, Member(b"a.txt", TEXT, start=0)])
    yield "size-less", archive([Member(b"a.txt", TEXT, size=len(TEXT) - 1)])
    yield "size-more", archive([Member(b"a.txt", TEXT, size=len(TEXT) + 1)])
    yield "packed-more", archive([Member(b"a.txt", TEXT, packed=good.packed + b"\0\0")])
    yield "packed-less", archive([Member(b"a.txt", TEXT, packed=good.packed[:-2])])
    yield "stored-sizes", archive([Member(b"a.txt", TEXT, method=0, size=1)])
    yield "crc", archive([Member(b"a.txt", TEXT, crc=0x12345678)])
    yield "descriptor", archive([Member(b"a.txt", TEXT, flags=8)])
    yield "block-type", archive([Member(b"a.txt", TEXT, packed=b"\x07")])
    yield "stored-block", archive([Member(b"a.txt", TEXT, packed=b"\x01\x04\x00\x00\x00abcd")])
    yield "far-match", archive([Member(b"a.txt", TEXT, packed=b"\x03\x02\x00")])
    yield "code-lengths", archive([Member(b"a.txt", TEXT, packed=bytes([0x05, 0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]))])
    yield "bomb", archive([Member(b"zeros\x1b[2J", bytes(5_000_000))])
    yield "bomb-claim", archive([Member(b"zeros", bytes(5_000_000), size=0x7FFFFFFF)])


def overlapping(m):
    """Two entries for the same bytes: the second member's local header lies in the first one's data (the way of
    quoted overlaps, D. Fifield, A better zip bomb, 2019)."""
    inner = local_header(m) + m.packed
    outer = Member(b"b.txt", inner, method=0)
    first, second = entry(outer, 0), entry(m, len(local_header(outer)))
    body = local_header(outer) + inner
    return body + first + second + end_record(2, len(first) + len(second), len(body))


if __name__ == "__main__":
    main()
