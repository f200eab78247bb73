"""Makes input/hostile-*: small broken pictures that plate must refuse with exit code 1. The reader of pictures is canny's,
and most of its tests are there. Python's standard library only."""

from pathlib import Path

INPUT = Path(__file__).resolve().parent / "input"

FILES = {
    "empty.pgm": b"",
    "text.txt": b"where is the plate?\n",
    "short.ppm": b"P6 8 8 255\n" + bytes(8 * 8 * 3 - 1),
    "wide.pgm": b"P5 16385 1 255\n" + bytes(16385),
    "cut.png": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
}


def main():
    for name, data in FILES.items():
        (INPUT / f"hostile-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
