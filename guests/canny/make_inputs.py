"""Makes input/*: pictures that scikit-image's package carries (needs guests/reference-requirements.txt and Pillow).

camera: a photograph by Lav Varshney, CC0. coffee: a photograph by Rachel Michetti, courtesy of Pikolo Espresso Bar,
CC0. The licences stand in the documentation of skimage.data. The smaller sizes are means of 2x2 or 4x4 pixels.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from skimage import data

INPUT = Path(__file__).resolve().parent / "input"


def main():
    camera, coffee = data.camera(), data.coffee()
    INPUT.mkdir(exist_ok=True)
    write_png("camera.png", camera)
    write_pnm("camera-256.pgm", shrunk(camera, 2))
    write_pnm("camera-128.pgm", shrunk(camera, 4))
    write_pnm("coffee-150.ppm", shrunk(coffee, 4))
    write_png("coffee-300.png", shrunk(coffee, 2))
    write_palette_png("camera-palette.png", shrunk(camera, 8))


def shrunk(image, factor):
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    means = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return means[:, :, 0] if image.ndim == 2 else means


def write_pnm(name, image):
    magic = "P5" if image.ndim == 2 else "P6"
    header = f"{magic}\n# from skimage.data, CC0\n{image.shape[1]} {image.shape[0]}\n255\n"
    (INPUT / name).write_bytes(header.encode() + image.tobytes())


def write_png(name, image):
    colour_type = 0 if image.ndim == 2 else 2
    write_chunks(name, image.shape, colour_type, image.reshape(image.shape[0], image.shape[1], -1))


def write_palette_png(name, image):
    """Greys in falling order as the palette, so that a reader that forgets the palette gives itself away."""
    palette = bytes(value for index in range(256) for value in (255 - index,) * 3)
    write_chunks(name, image.shape, 3, (255 - image)[:, :, None], (b"PLTE", palette))


def write_chunks(name, shape, colour_type, pixels, *more):
    rows = filtered(pixels.astype(int))
    stream = zlib.compress(rows, 9)
    pieces = [stream[i:i + 8192] for i in range(0, len(stream), 8192)]
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 8, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, *((b"IDAT", piece) for piece in pieces), (b"IEND", b"")]
    (INPUT / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, chunks)))


def chunk(typed):
    kind, body = typed
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def filtered(pixels):
    """Each row with the filter whose result has the smallest sum of absolute values: all five filters occur."""
    rows = []
    above = np.zeros_like(pixels[0])
    for row in pixels:
        left = np.vstack([np.zeros_like(row[:1]), row[:-1]])
        corner = np.vstack([np.zeros_like(row[:1]), above[:-1]])
        estimates = [np.zeros_like(row), left, above, (left + above) // 2, paeth(left, above, corner)]
        candidates = [((row - estimate) % 256).astype(np.uint8) for estimate in estimates]
        best = min(range(5), key=lambda i: int(np.abs(candidates[i].astype(np.int8).astype(int)).sum()))
        rows.append(bytes([best]) + candidates[best].tobytes())
        above = row
    return b"".join(rows)


def paeth(left, above, corner):
    estimate = left + above - corner
    by_left, by_above, by_corner = abs(estimate - left), abs(estimate - above), abs(estimate - corner)
    other = np.where(by_above <= by_corner, above, corner)
    return np.where((by_left <= by_above) & (by_left <= by_corner), left, other)


if __name__ == "__main__":
    main()
