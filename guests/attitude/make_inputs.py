#!/usr/bin/env python3
"""Makes the inputs of the attitude guest: readings of a sensor that moves as told below. Nothing was recorded.

The readings have the noise and the offsets that data sheets of cheap sensors state. Python's own random numbers from a
seed, and nothing else, so that every machine makes the same bytes.

    python guests/attitude/make_inputs.py     input/small.csv, inertial.csv, medium.csv
                                              and target/guest-inputs/attitude/large.csv, too big to be committed
"""

import math
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
LARGE = HERE.parents[1] / "target/guest-inputs/attitude"
STEP_S = 0.01
STEPS_INSIDE = 4  # the truth moves in steps this much shorter
GRAVITY = 9.80665
FIELD_UT = (21.2, 0.0, -43.1)  # magnetic north, west, up: what Munich has
GAP_S = 2.5  # the medium and large recordings miss this much, as after a lost connection

ACCELERATION_NOISE, ACCELERATION_OFFSET = 0.04, (0.03, -0.05, 0.02)  # m/s^2
RATE_NOISE, RATE_OFFSET = 0.004, (0.002, -0.001, 0.0015)  # rad/s
FIELD_NOISE, FIELD_OFFSET = 0.5, (0.3, -0.2, 0.4)  # uT


def main():
    for folder in (HERE / "input", LARGE):
        folder.mkdir(parents=True, exist_ok=True)
    for name, folder in (("small", HERE / "input"), ("medium", HERE / "input"), ("large", LARGE)):
        rows, _ = recording(name)
        write(folder / f"{name}.csv", rows, 10)
    rows, _ = recording("inertial")
    write(HERE / "input/inertial.csv", rows, 7)


def write(path, rows, columns):
    names = "t,ax,ay,az,gx,gy,gz,mx,my,mz".split(",")
    digits = (3, 3, 3, 3, 4, 4, 4, 2, 2, 2)
    lines = [",".join(names[:columns])] if columns == 10 else []  # a recording without a header too
    lines += [",".join(f"{value:.{n}f}" for value, n in zip(row[:columns], digits)) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def recording(name):
    """Rows of ten numbers, and the true attitude of each: a quaternion that turns sensor vectors into the earth's."""
    count, gap_at, seed = {"small": (500, None, 1), "inertial": (500, None, 2),
                           "medium": (5000, 3000, 3), "large": (50000, 30000, 4)}[name]
    noise = random.Random(seed)
    waves = [[(noise.uniform(0.2, 0.9), noise.uniform(0.3, 4.0), noise.uniform(0, 6.28)) for _ in range(3)] for _ in range(3)]
    q = (0.9, 0.2, -0.3, 0.25)
    q = tuple(c / math.sqrt(sum(c * c for c in q)) for c in q)
    rows, truth, t = [], [], 0.0
    for i in range(count):
        steps = round(GAP_S / STEP_S) if i == gap_at else 1
        if i > 0:
            for _ in range(steps * STEPS_INSIDE):
                q = turn(q, rate_at(waves, t), STEP_S / STEPS_INSIDE)
                t += STEP_S / STEPS_INSIDE
        rows.append(reading(noise, t, q, rate_at(waves, t)))
        truth.append(q)
    return rows, truth


def rate_at(waves, t):
    """Still for a second, then a sum of three sines on each axis, stronger and weaker over half a minute."""
    if t < 1:
        return (0.0, 0.0, 0.0)
    strength = min(1.0, t - 1) * (0.55 + 0.45 * math.sin(0.2 * t))
    return tuple(strength * sum(a * math.sin(w * t + p) for a, w, p in axis) for axis in waves)


def turn(q, rate, dt):
    angle = math.sqrt(sum(r * r for r in rate)) * dt
    if angle == 0:
        return q
    s = math.sin(angle / 2) * dt / angle
    return product(q, (math.cos(angle / 2), rate[0] * s, rate[1] * s, rate[2] * s))


def product(p, q):
    return (p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
            p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
            p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
            p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0])


def to_sensor(q, v):
    conjugate = (q[0], -q[1], -q[2], -q[3])
    return product(product(conjugate, (0.0, *v)), q)[1:]


def reading(noise, t, q, rate):
    # A shake of a quarter of a second every five seconds: up to 4 m/s^2 beside gravity.
    shake = 4.0 * math.sin(25 * t) if t % 5 > 4.75 else 0.0
    up = to_sensor(q, (0.3 * shake, shake, GRAVITY + 0.5 * shake))
    field = to_sensor(q, FIELD_UT)
    measured = [v + o + noise.gauss(0, n) for values, offsets, n in (
        (up, ACCELERATION_OFFSET, ACCELERATION_NOISE), (rate, RATE_OFFSET, RATE_NOISE), (field, FIELD_OFFSET, FIELD_NOISE))
        for v, o in zip(values, offsets)]
    return [t, *measured]


if __name__ == "__main__":
    main()
