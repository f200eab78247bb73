"""Compares plate.wasm (and the simd variant) with the same steps done by SciPy and scikit-image, and counts how many
made-up plates it finds.

Stated tolerance: the same boxes and scores in every picture; and of 50 scenes, at least 90 % have a box whose
intersection over union with the true plate is at least 0.5. The guest's lengths were chosen on other scenes (seeds
1000 to 1059 and 2000 to 2019).
"""

import argparse
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

import scenes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOUND_LEAST = 0.9
SIZES = [(320, 240)] * 30 + [(640, 480)] * 20


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    runner = shlex.split(parser.parse_args().runner)
    good = all([compare(runner, path.name, path.read_bytes()) for path in committed()] +
               [compare(runner, name, pgm(picture)) for name, picture in awkward()])
    sys.exit(0 if count_plates(runner) and good else 1)


def committed():
    return [path for path in sorted((HERE / "input").iterdir()) if not path.name.startswith("hostile-")]


def compare(runner, name, data):
    answer = run(runner, "plate.wasm", data)
    picture = decode(data)
    expected = boxes_by_scipy(picture)
    same = as_tuples(json.loads(answer)) == expected
    same_simd = run(runner, "plate.simd.wasm", data) == answer
    print(f"{name}: {picture.shape[1]}x{picture.shape[0]}, {len(expected)} boxes, {'same' if same else 'OTHER'} boxes and scores, "
          f"simd {'same bytes' if same_simd else 'OTHER BYTES'}")
    return same and same_simd


def count_plates(runner):
    overlaps, first, boxes, differing = [], 0, 0, 0
    for seed, (width, height) in enumerate(SIZES):
        scene = scenes.make_scene(seed, width, height)
        picture = scenes.grey(scene.picture)
        answer = as_tuples(json.loads(run(runner, "plate.wasm", pgm(picture))))
        differing += answer != boxes_by_scipy(picture)
        overlap = [intersection_over_union(box, scene.plate) for box in answer]
        overlaps.append(max(overlap, default=0))
        first += bool(overlap) and overlap[0] >= 0.5
        boxes += len(answer)
    found = sum(overlap >= 0.5 for overlap in overlaps)
    print(f"{len(SIZES)} scenes: {found} plates found with an overlap of at least 0.5 (mean {np.mean(overlaps):.3f}), "
          f"{first} of them as the best box, {boxes / len(SIZES):.2f} boxes a scene; boxes differ from SciPy's in {differing} scenes")
    return found >= FOUND_LEAST * len(SIZES) and differing == 0


def run(runner, module, data):
    return subprocess.run([*runner, str(HERE / module)], input=data, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout


def as_tuples(answer):
    return [(box["x"], box["y"], box["width"], box["height"], round(1000 * box["score"])) for box in answer["boxes"]]


def decode(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def pgm(picture):
    return f"P5 {picture.shape[1]} {picture.shape[0]} 255\n".encode() + picture.tobytes()


def awkward():
    """Pictures smaller than the filters' windows, noise, and shapes that test how components are joined."""
    random = np.random.default_rng(20260101)
    for height, width in [(1, 1), (1, 300), (200, 1), (2, 3), (5, 400), (40, 41)]:
        yield f"noise {width}x{height}", random.integers(0, 256, (height, width)).astype(np.uint8)
    for number in range(4):
        coarse = random.integers(0, 256, (15 + 10 * number, 40)).astype(np.uint8)
        yield f"blocks {number}", coarse.repeat(3 + number, axis=0).repeat(5, axis=1)
    comb = np.full((120, 200), 200, np.uint8)
    comb[30:50, 20:90:4] = 10
    comb[70:80, 100:190:3] = 60
    yield "combs", comb


def intersection_over_union(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0, width) * max(0, height)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


# ---- the same steps, by SciPy and scikit-image ----

def boxes_by_scipy(picture):
    grey = picture if picture.ndim == 2 else scenes.grey(picture)
    mask = lettering(grey)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    boxes = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        width, height = columns.stop - columns.start, rows.stop - rows.start
        area = int(np.count_nonzero(labels[rows, columns] == number))
        if plausible(width, height, area, grey.shape[1]):
            boxes.append((columns.start, rows.start, width, height, score(width, height, area)))
    return sorted(boxes, key=lambda box: (-box[4], box[1], box[0]))


def share(width, divisor):
    return max(3, width // divisor | 1)


def lettering(grey):
    width = grey.shape[1]
    hat = opened_or_closed(grey, (share(width, 100), share(width, 50)), ndimage.maximum_filter, ndimage.minimum_filter).astype(int) - grey
    slope = np.abs(ndimage.sobel(hat, axis=1, mode="nearest")) >> 2
    side = share(width, 40)
    ones = np.ones(side, int)
    sums = ndimage.correlate1d(ndimage.correlate1d(slope, ones, axis=0, mode="nearest"), ones, axis=1, mode="nearest")
    means = ((sums + side * side // 2) // (side * side)).astype(np.uint8)
    joined = opened_or_closed(means, (share(width, 100), share(width, 20)), ndimage.maximum_filter, ndimage.minimum_filter)
    threshold = threshold_otsu(joined) if joined.min() < joined.max() else 255
    dark_tails = (joined > threshold).astype(np.uint8)
    return opened_or_closed(dark_tails, (share(width, 40), share(width, 40)), ndimage.minimum_filter, ndimage.maximum_filter) > 0


def opened_or_closed(picture, size, first, second):
    return second(first(picture, size=size, mode="nearest"), size=size, mode="nearest")


def plausible(width, height, area, picture_width):
    return 12 * width >= picture_width and 2 * width <= picture_width and 2 * height <= width <= 9 * height and 2 * area >= width * height


def score(width, height, area):
    aspect = 1000 * width // height
    likeness = aspect * 1000 // 4000 if aspect < 4000 else 4000 * 1000 // aspect
    return (1000 * area // (width * height)) * likeness // 1000


if __name__ == "__main__":
    main()
