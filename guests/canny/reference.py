"""Compares canny.wasm (and the simd variant) with scikit-image's feature.canny on every committed picture.

Stated tolerance: at least 0.999 of the pixels equal, and a Jaccard index of the edge pixels of at least 0.999.
"""

import argparse
import io
import itertools
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import feature, img_as_float
from skimage.color import rgb2gray

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LEAST = 0.999

# sigma, low, high: scikit-image's defaults, and others that are usual. Sigma 0.5 keeps much noise.
SETTINGS = [(1.0, 0.1, 0.2), (1.4, 0.05, 0.15), (2.0, 0.02, 0.1), (0.5, 0.1, 0.3), (3.0, 0.0, 0.05)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    runner = shlex.split(parser.parse_args().runner)
    pictures = [(path.name, path.read_bytes()) for path in sorted((HERE / "input").iterdir()) if path.stem.startswith(("camera", "coffee"))]
    good = all([compare(runner, *picture, *setting) for picture, setting in itertools.product(pictures, SETTINGS)])
    good = all([compare(runner, *picture, *SETTINGS[0]) for picture in made_up()]) and good
    sys.exit(0 if good else 1)


def compare(runner, name, data, sigma, low, high):
    args = ["--sigma", str(sigma), "--low", str(low), "--high", str(high)]
    ours = decode(run(runner, "canny.wasm", args, data))
    theirs = expected(decode(data), sigma, low, high)
    same = np.mean((ours > 0) == theirs)
    union = np.count_nonzero((ours > 0) | theirs)
    jaccard = np.count_nonzero((ours > 0) & theirs) / union if union else 1.0
    same_simd = run(runner, "canny.simd.wasm", args, data) == run(runner, "canny.wasm", args, data)
    print(f"{name} sigma {sigma} low {low} high {high}: {np.count_nonzero(theirs)} edge pixels, "
          f"equal pixels {same:.6f}, Jaccard {jaccard:.6f}, simd {'same bytes' if same_simd else 'OTHER BYTES'}")
    return same >= LEAST and jaccard >= LEAST and same_simd and set(np.unique(ours)) <= {0, 255}


def run(runner, module, args, data):
    return subprocess.run([*runner, str(HERE / module), *args], input=data, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout


def decode(data):
    picture = Image.open(io.BytesIO(data))
    return np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)


def expected(picture, sigma, low, high):
    grey = img_as_float(picture) if picture.ndim == 2 else rgb2gray(picture)
    return feature.canny(grey, sigma=sigma, low_threshold=low, high_threshold=high)


def made_up():
    """Small and awkward pictures: one pixel, one row, flat, noise, a ramp with ties, a palette's colours."""
    random = np.random.default_rng(20260101)
    yield "1x1", pgm(np.full((1, 1), 200))
    yield "2x2", pgm(np.array([[0, 255], [255, 0]]))
    yield "1x40", pgm(random.integers(0, 256, (1, 40)))
    yield "40x3", pgm(random.integers(0, 256, (40, 3)))
    yield "3x3", pgm(random.integers(0, 256, (3, 3)))
    yield "flat", pgm(np.full((50, 70), 255))
    yield "noise", pgm(random.integers(0, 256, (97, 131)))
    yield "step", pgm(np.where(np.arange(64)[None, :] < 32, 20, 220).repeat(40, axis=0))
    square = np.zeros((60, 61), int)
    square[15:45, 16:46] = 255
    yield "square", pgm(square)


def pgm(picture):
    return f"P5 {picture.shape[1]} {picture.shape[0]} 255\n".encode() + picture.astype(np.uint8).tobytes()


if __name__ == "__main__":
    main()
