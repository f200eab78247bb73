#!/usr/bin/env python3
"""Compares the attitude guest with AQUA of the Python package ahrs, and with the truth of the made recordings.

ahrs takes its gains from the constructor and weakens the first one in adaptive_gain; both are set to the guest's values.
The angle between two attitudes is that of the turn from one to the other.
"""

import argparse
import functools
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from ahrs.filters import aqua

import make_inputs

HERE = Path(__file__).resolve().parent
ANGLE_MAX_RAD = 5e-6  # six digits are printed
EULER_MAX_DEG = 1e-3  # three digits are printed
TRUTH_MAX_DEG = 3.0   # the filter's own error, with these gains and this noise
SETTLED_AFTER_S = 10  # after the gap in a recording
RECORDINGS = {"small": 10, "inertial": 7, "medium": 10, "large": 10}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default="target/release/remuda run --")
    runner = shlex.split(parser.parse_args().runner)
    aqua.adaptive_gain = functools.partial(aqua.adaptive_gain, alpha_bar=0.01, g=9.80665)
    make_inputs.main()
    good = [compare(runner, name, columns) for name, columns in RECORDINGS.items()]
    sys.exit(0 if all(good) else 1)


def compare(runner, name, columns):
    folder = make_inputs.LARGE if name == "large" else HERE / "input"
    text = (folder / f"{name}.csv").read_bytes()
    samples = np.genfromtxt(text.decode().splitlines(), delimiter=",", skip_header=1 if columns == 10 else 0)
    quaternions, angles = answers(runner, [], text), answers(runner, ["--euler"], text)
    expected = reference(samples)
    apart = angle(quaternions[:, 1:], expected).max()
    euler_apart = np.abs((angles[:, 1:] - euler(expected) + 180) % 360 - 180).max()
    message = f"attitude {name}: {len(samples)} samples, at most {apart:.1e} rad and {euler_apart:.1e} degrees from ahrs"
    good = apart <= ANGLE_MAX_RAD and euler_apart <= EULER_MAX_DEG and len(quaternions) == len(samples)
    if columns == 10:
        error = truth_error(name, samples, quaternions)
        message += f"; {error:.2f} degrees (root mean square) from the truth"
        good = good and error <= TRUTH_MAX_DEG
    print(message if good else f"{message}: too much")
    return good


def answers(runner, args, text):
    result = subprocess.run(runner + [str(HERE / "attitude.wasm")] + args, input=text, stdout=subprocess.PIPE, check=True)
    return np.genfromtxt(result.stdout.decode().splitlines(), delimiter=",", skip_header=1)


def reference(samples):
    t, acceleration, rate = samples[:, 0], samples[:, 1:4], samples[:, 4:7]
    field = samples[:, 7:10] if samples.shape[1] == 10 else None
    filter = aqua.AQUA(alpha=0.01, beta=0.01, threshold=0.9, adaptive=True)
    q = np.array(filter.estimate(acceleration[0], None if field is None else field[0]))
    result = [q]
    for i in range(1, len(samples)):
        dt = t[i] - t[i - 1]
        if field is None:
            q = filter.updateIMU(q, rate[i], acceleration[i], dt)
        else:
            q = filter.updateMARG(q, rate[i], acceleration[i], field[i], dt)
        result.append(q)
    return np.array(result)


def angle(p, q):
    """From the chord: the arc cosine of the scalar product would lose half the digits."""
    chord = np.minimum(np.linalg.norm(p - q, axis=1), np.linalg.norm(p + q, axis=1))
    return 4 * np.arcsin(np.clip(chord / 2, 0, 1))


def euler(q):
    w, x, y, z = q[:, 0], -q[:, 1], -q[:, 2], -q[:, 3]
    return np.degrees(np.array([
        np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
        np.arcsin(np.clip(2 * (w * y - z * x), -1, 1)),
        np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
    ]).T)


def truth_error(name, samples, quaternions):
    _, truth = make_inputs.recording(name)
    truth = np.array(truth) * [1, -1, -1, -1]
    apart = np.degrees(angle(quaternions[:, 1:], truth))
    t = samples[:, 0]
    gaps = t[1:][np.diff(t) > 1]
    settled = np.all([(t < gap) | (t > gap + SETTLED_AFTER_S) for gap in gaps], axis=0) if len(gaps) else t >= 0
    return float(np.sqrt((apart[settled] ** 2).mean()))


if __name__ == "__main__":
    main()
