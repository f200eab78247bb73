"""Makes input/hostile-*: small broken pictures that canny must refuse with exit code 1. Python's standard library only."""

import struct
import zlib
from pathlib import Path

INPUT = Path(__file__).resolve().parent / "input"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def main():
    for name, data in FILES.items():
        (INPUT / f"hostile-{name}").write_bytes(data)


def chunk(kind, body, crc=None):
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def header(width=8, height=8, depth=8, colour=0, interlace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def picture(head, stream, *before):
    return SIGNATURE + head + b"".join(before) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


ROWS = bytes(8 * 9)
STREAM = zlib.compress(ROWS)
GOOD = picture(header(), STREAM)

FILES = {
    "empty.pgm": b"",
    "text.pgm": b"hello\n",
    "header.pgm": b"P5\n12",
    "huge.pgm": b"P5 4000000000 4000000000 255\n",
    "large.pgm": b"P5 65536 65536 255\n",
    "zero.pgm": b"P5 0 10 255\n",
    "short.pgm": b"P5 4 4 255\n" + bytes(15),
    "long.pgm": b"P5 4 4 255\n" + bytes(17),
    "deep.pgm": b"P5 4 4 65535\n" + bytes(32),
    "above.pgm": b"P5 2 1 15\n\x0f\x10",
    "cut.png": GOOD[:-20],
    "crc.png": SIGNATURE + header() + chunk(b"IDAT", STREAM, crc=1) + chunk(b"IEND", b""),
    "chunk.png": SIGNATURE + header() + struct.pack(">I", 0x7FFFFFFF) + b"IDAT" + STREAM,
    "size.png": picture(header(width=0x7FFFFFFF, height=0x7FFFFFFF), STREAM),
    "deep.png": picture(header(depth=16), STREAM),
    "interlaced.png": picture(header(interlace=1), STREAM),
    "colour.png": picture(header(colour=5), STREAM),
    "palette.png": picture(header(colour=3), STREAM),
    "outside.png": picture(header(colour=3), zlib.compress(bytes([0] + [1] * 8) * 8), chunk(b"PLTE", bytes(3))),
    "filter.png": picture(header(), zlib.compress(bytes([5] + [1] * 8) * 8)),
    "few.png": picture(header(), zlib.compress(ROWS[:-9])),
    "bomb.png": picture(header(), zlib.compress(bytes(100_000))),
    "adler.png": picture(header(), STREAM[:-1] + b"\xff"),
    "stream.png": picture(header(), STREAM[:2] + b"\xff" * 40),
    "distance.png": picture(header(), b"\x78\x01\x03\x02\x00" + STREAM[-4:]),
}

if __name__ == "__main__":
    main()
