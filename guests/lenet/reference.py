#!/usr/bin/env python3
"""Compares the lenet guest with the same network in 64-bit floats by scipy, and its answers with the digits' labels.

The weights come from weights.h, so the rounding of weights to 8 bits is no difference here; it counts in the accuracy.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.signal import correlate
from scipy.special import softmax

HERE = Path(__file__).resolve().parent
LAYERS = ["c1", "c3", "c5", "f6", "output"]
PROBABILITY_MAX = 0.0006  # three digits are printed, so up to 0.0005 is rounding
ACCURACY_MIN = 0.97


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    runner = shlex.split(parser.parse_args().runner)
    data = (HERE / "input/digits-1000.idx3").read_bytes()
    images = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.array([int(line) for line in (HERE / "input/labels.txt").read_text().split()])
    weights = read_weights((HERE / "weights.h").read_text())
    expected = np.array([softmax(scores(weights, image / 255)) for image in images])
    good = [compare(runner, wasm, data, labels, expected) for wasm in ("lenet.wasm", "lenet.simd.wasm")]
    sys.exit(0 if all(good) else 1)


def read_weights(header):
    """The matrices, multiplied out with their scales, and the biases."""
    arrays = {name: np.array([number(text) for text in values.split(",") if text.strip()])
              for name, values in re.findall(r"(\w+)\[[^]]*\] = \{([^}]*)\}", header)}
    return {name: (arrays[f"{name}_weights"].reshape(-1, len(arrays[f"{name}_biases"])) * arrays[f"{name}_scales"],
                   arrays[f"{name}_biases"]) for name in LAYERS}


def number(text):
    text = text.strip()
    return float.fromhex(text.removesuffix("f")) if "x" in text else float(text)


def scores(weights, image):
    x = np.pad(image, 2)[..., None]
    for name in ("c1", "c3"):
        x = pool(np.maximum(convolution(x, *weights[name]), 0))
    x = x.reshape(-1)
    for name in ("c5", "f6"):
        x = np.maximum(x @ weights[name][0] + weights[name][1], 0)
    return x @ weights["output"][0] + weights["output"][1]


def convolution(x, matrix, biases):
    kernels = matrix.reshape(5, 5, x.shape[2], -1)
    maps = [correlate(x, kernels[..., m], mode="valid")[..., 0] + biases[m] for m in range(len(biases))]
    return np.stack(maps, axis=-1)


def pool(x):
    h, w, c = x.shape
    return x.reshape(h // 2, 2, w // 2, 2, c).max(axis=(1, 3))


def compare(runner, wasm, data, labels, expected):
    result = subprocess.run(runner + [str(HERE / wasm)], input=data, stdout=subprocess.PIPE, check=True)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    digits = np.array([answer["digit"] for answer in answers])
    probabilities = np.array([answer["probability"] for answer in answers])
    same = int((digits == expected.argmax(1)).sum())
    apart = np.abs(probabilities - expected.max(1)).max()
    accuracy = (digits == labels).mean()
    good = same == len(labels) and apart <= PROBABILITY_MAX and accuracy >= ACCURACY_MIN
    message = f"{wasm}: {same} of {len(labels)} digits as scipy has them, probabilities at most {apart:.4f} apart; {accuracy:.1%} as labelled"
    print(message if good else f"{message}: too bad")
    return good


if __name__ == "__main__":
    main()
