"""Makes scenes with licence plates, and from them input/*. Needs NumPy and scikit-image (guests/reference-requirements.txt).

No photograph of a real plate may be given away freely, so the scenes are made up: a crop of a photograph as background,
on it a smoothly shaded body with one plate, drawn without perspective, then blur, uneven light and noise. Results on
them say how well the guest does its work, not how it would do on a road.

Photographs: camera (Lav Varshney), coffee (Rachel Michetti), chelsea (Stefan van der Walt), brick and gravel
(CC0Textures), all CC0, from scikit-image's package; the licences stand in the documentation of skimage.data. The
letters are drawn here, on a grid of 5 by 7.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

INPUT = Path(__file__).resolve().parent / "input"
BACKGROUNDS = ["camera", "coffee", "chelsea", "brick", "gravel"]
COLOUR_BACKGROUNDS = ["coffee", "chelsea"]

GLYPHS = {
    "A": "01110 10001 10001 11111 10001 10001 10001", "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111", "E": "11111 10000 10000 11110 10000 10000 11111",
    "H": "10001 10001 10001 11111 10001 10001 10001", "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111", "M": "10001 11011 10101 10101 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000", "R": "11110 10001 10001 11110 10100 10010 10001",
    "T": "11111 00100 00100 00100 00100 00100 00100", "X": "10001 01010 00100 00100 00100 01010 10001",
    "0": "01110 10001 10011 10101 11001 10001 01110", "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111", "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010", "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "01110 10000 11110 10001 10001 10001 01110", "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110", "9": "01110 10001 10001 01111 00001 00001 01110",
}


@dataclass
class Scene:
    picture: np.ndarray  # height, width, 3; values 0 to 255
    plate: tuple         # x, y, width, height of the one plate


def make_scene(seed, width, height, colour=False):
    random = np.random.default_rng(seed)
    names = COLOUR_BACKGROUNDS if colour else BACKGROUNDS
    picture = background(random, names[seed % len(names)], width, height)
    plate_width = int(random.uniform(0.18, 0.34) * width)
    plate_height = int(plate_width / random.uniform(4.2, 5.0))
    x = int(random.uniform(0.15, 0.85) * (width - plate_width))
    y = int(random.uniform(0.25, 0.85) * (height - plate_height))
    draw_body(random, picture, x, y, plate_width, plate_height)
    draw_plate(random, picture, x, y, plate_width, plate_height)
    return Scene(photographed(random, picture), (x, y, plate_width, plate_height))


def background(random, name, width, height):
    """A crop of a photograph, enlarged or reduced to the scene's size."""
    photo = getattr(data, name)().astype(float)
    if photo.ndim == 2:
        photo = photo[:, :, None].repeat(3, axis=2)
    share = random.uniform(0.6, 1.0)
    scale = share * min(photo.shape[1] / width, photo.shape[0] / height)
    left = random.uniform(0, photo.shape[1] - scale * width)
    top = random.uniform(0, photo.shape[0] - scale * height)
    return resampled(photo, left, top, scale, width, height)


def resampled(photo, left, top, scale, width, height):
    """Bilinear interpolation."""
    xs = np.clip(left + scale * (np.arange(width) + 0.5) - 0.5, 0, photo.shape[1] - 1.001)
    ys = np.clip(top + scale * (np.arange(height) + 0.5) - 0.5, 0, photo.shape[0] - 1.001)
    x0, y0 = xs.astype(int), ys.astype(int)
    fx, fy = (xs - x0)[None, :, None], (ys - y0)[:, None, None]
    upper = photo[y0][:, x0] * (1 - fx) + photo[y0][:, x0 + 1] * fx
    lower = photo[y0 + 1][:, x0] * (1 - fx) + photo[y0 + 1][:, x0 + 1] * fx
    return upper * (1 - fy) + lower * fy


def draw_body(random, picture, x, y, plate_width, plate_height):
    """The part of a car that holds the plate: one colour that grows darker downwards, and a bumper's edge."""
    height, width = picture.shape[:2]
    left = max(0, x - int(random.uniform(0.25, 0.6) * plate_width))
    right = min(width, x + plate_width + int(random.uniform(0.25, 0.6) * plate_width))
    top = max(0, y - int(random.uniform(0.8, 2.0) * plate_height))
    bottom = min(height, y + plate_height + int(random.uniform(0.8, 1.6) * plate_height))
    colour = random.uniform(20, 200, 3)
    shade = np.linspace(1.0, random.uniform(0.6, 0.9), bottom - top)[:, None, None]
    picture[top:bottom, left:right] = colour * shade
    edge = y - int(0.4 * plate_height)
    if edge > top:
        picture[edge:edge + max(1, plate_height // 12), left:right] *= 0.5


def draw_plate(random, picture, x, y, width, height):
    paper = np.array([[235, 235, 230], [235, 200, 60], [210, 220, 235]][random.integers(3)]) * random.uniform(0.75, 1.0)
    ink = np.array([20, 20, 25]) * random.uniform(0.5, 2.0)
    frame = max(1, height // 20)
    picture[y:y + height, x:x + width] = ink
    picture[y + frame:y + height - frame, x + frame:x + width - frame] = paper
    text = random.choice(list(GLYPHS), random.integers(6, 9))
    draw_text(picture, text, x + 0.05 * width, y + 0.16 * height, 0.90 * width, 0.68 * height, paper, ink)


def draw_text(picture, text, left, top, width, height, paper, ink):
    """Each pixel is as dark as the share of it that the grid's squares cover, found by 4 by 4 samples."""
    advance = width / len(text)
    glyph_width = min(0.78 * advance, 0.62 * height)
    for y in range(int(top), int(top + height) + 1):
        for x in range(int(left), int(left + width) + 1):
            covered = sum(covers(text, (x + (i % 4 + 0.5) / 4 - left) / advance, (y + (i // 4 + 0.5) / 4 - top) / height,
                                 glyph_width / advance) for i in range(16)) / 16
            if covered > 0:
                picture[y, x] = paper * (1 - covered) + ink * covered


def covers(text, position, v, share):
    """True if the text has ink at `position`, counted in letters, and `v`, counted in heights."""
    index = int(np.floor(position))
    u = (position - index) / share
    if not (0 <= index < len(text) and 0 <= u < 1 and 0 <= v < 1):
        return False
    return GLYPHS[text[index]].split()[int(v * 7)][int(u * 5)] == "1"


def photographed(random, picture):
    """Blur, light that falls from one side, less contrast, noise."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    strength = random.uniform(0.0, 0.25)
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    picture = picture * (1 - strength) + sides * strength / 4
    light = 1 + random.uniform(-0.25, 0.25) * np.linspace(-1, 1, width)[None, :, None]
    picture = (picture * light - 128) * random.uniform(0.6, 1.0) + 128 + random.uniform(-20, 10)
    picture += random.normal(0, random.uniform(1, 6), (height, width, 1))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def grey(picture):
    """ITU-R BT.601's weights in whole numbers, as the guest has them."""
    red, green, blue = (picture[:, :, i].astype(int) for i in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def main():
    INPUT.mkdir(exist_ok=True)
    write_pnm("scene-240.ppm", make_scene(1, 240, 180, colour=True).picture)
    write_pnm("scene-320.pgm", grey(make_scene(5, 320, 240).picture))
    write_png("scene-640.png", grey(make_scene(9, 640, 480).picture))
    write_png("scene-960.png", grey(make_scene(13, 960, 720).picture))
    write_pnm("flat.pgm", np.full((48, 64), 77, np.uint8))


def write_pnm(name, picture):
    magic = "P5" if picture.ndim == 2 else "P6"
    (INPUT / name).write_bytes(f"{magic} {picture.shape[1]} {picture.shape[0]} 255\n".encode() + picture.tobytes())


def write_png(name, picture):
    Image.fromarray(picture).save(INPUT / name, optimize=True)


if __name__ == "__main__":
    main()
