#!/usr/bin/env python3
"""Compares every live-out array of the thirty PolyBench kernels with numpy and scipy.

Each kernel is stated again from its mathematics, with whole-array operations of another implementation where there
is one: a triangular solver, a banded solver, a digital filter, Dijkstra's algorithm instead of Floyd's. The inputs
are written out again too. The arrays come from the kernel's --dump=full, which is exact.

The error of an array is max |got - want| / max(|want|, mean |want|). The mean keeps elements that happen to lie near
zero from asking for more digits than their neighbours have. Integers must be equal.

Also checked: the checksum line is that of the dumped values, and --dump shows the same values with two decimals.

    python guests/polybench/reference.py --runner "wasmtime run"
"""

import argparse
import shlex
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
from scipy import linalg, ndimage, signal
from scipy.sparse import csgraph

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent

TOLERANCE = {np.float64: 1e-9, np.float32: 1e-4, np.int32: 0}

Kernel = namedtuple("Kernel", "dims function dtype")
KERNELS = {}


def kernel(name, mini, small, dtype=np.float64):
    """Registers a function of the dimensions that gives {array name: expected values}."""
    def register(function):
        KERNELS[name] = Kernel({"MINI": mini, "SMALL": small}, function, dtype)
        return function
    return register


def grid(*shape):
    """Index arrays i, j, ... that broadcast against each other."""
    return np.ogrid[tuple(slice(n) for n in shape)]


# ---- data mining ----

@kernel("correlation", (28, 32), (80, 100))
def correlation(m, n):
    i, j = grid(n, m)
    return {"corr": np.corrcoef(i * j / m + i, rowvar=False)}


@kernel("covariance", (28, 32), (80, 100))
def covariance(m, n):
    i, j = grid(n, m)
    return {"cov": np.cov(i * j / m, rowvar=False)}


# ---- linear algebra: BLAS ----

@kernel("gemm", (20, 25, 30), (60, 70, 80))
def gemm(ni, nj, nk):
    i, j = grid(ni, nj)
    c = (i * j + 1) % ni / ni
    i, k = grid(ni, nk)
    a = i * (k + 1) % nk / nk
    k, j = grid(nk, nj)
    b = k * (j + 2) % nj / nj
    return {"C": 1.5 * (a @ b) + 1.2 * c}


@kernel("gemver", (40,), (120,))
def gemver(n):
    i, j = grid(n, n)
    steps = np.arange(1, n + 1) / n
    u1, u2, v1, v2, y, z = np.arange(n), steps / 2, steps / 4, steps / 6, steps / 8, steps / 9
    a = i * j % n / n + np.outer(u1, v1) + np.outer(u2, v2)
    x = 1.2 * (a.T @ y) + z
    return {"w": 1.5 * (a @ x)}


@kernel("gesummv", (30,), (90,))
def gesummv(n):
    i, j = grid(n, n)
    x = np.arange(n) / n
    return {"y": (1.5 * ((i * j + 1) % n / n) + 1.2 * ((i * j + 2) % n / n)) @ x}


@kernel("symm", (20, 30), (60, 80))
def symm(m, n):
    i, j = grid(m, n)
    c = (i + j) % 100 / m
    b = (n + i - j) % 100 / m
    i, j = grid(m, m)
    a = (i + j) % 100 / m  # The formula of the lower triangle is symmetric already.
    return {"C": 1.5 * (a @ b) + 1.2 * c}


def update_lower(c, change):
    """A rank update writes the lower triangle and leaves the upper one."""
    return np.where(np.tri(len(c), dtype=bool), 1.2 * c + 1.5 * change, c)


@kernel("syr2k", (20, 30), (60, 80))
def syr2k(m, n):
    i, j = grid(n, m)
    a = (i * j + 1) % n / n
    b = (i * j + 2) % m / m
    i, j = grid(n, n)
    return {"C": update_lower((i * j + 3) % n / m, a @ b.T + b @ a.T)}


@kernel("syrk", (20, 30), (60, 80))
def syrk(m, n):
    i, j = grid(n, m)
    a = (i * j + 1) % n / n
    i, j = grid(n, n)
    return {"C": update_lower((i * j + 2) % m / m, a @ a.T)}


@kernel("trmm", (20, 30), (60, 80))
def trmm(m, n):
    i, j = grid(m, m)
    a = np.tril((i + j) % m / m, -1) + np.eye(m)
    i, j = grid(m, n)
    return {"B": 1.5 * (a.T @ ((n + i - j) % n / n))}


# ---- linear algebra: kernels ----

@kernel("2mm", (16, 18, 22, 24), (40, 50, 70, 80))
def two_mm(ni, nj, nk, nl):
    i, j = grid(ni, nk)
    a = (i * j + 1) % ni / ni
    i, j = grid(nk, nj)
    b = i * (j + 1) % nj / nj
    i, j = grid(nj, nl)
    c = (i * (j + 3) + 1) % nl / nl
    i, j = grid(ni, nl)
    d = i * (j + 2) % nk / nk
    return {"D": 1.5 * np.linalg.multi_dot([a, b, c]) + 1.2 * d}


@kernel("3mm", (16, 18, 20, 22, 24), (40, 50, 60, 70, 80))
def three_mm(ni, nj, nk, nl, nm):
    i, j = grid(ni, nk)
    a = (i * j + 1) % ni / (5 * ni)
    i, j = grid(nk, nj)
    b = (i * (j + 1) + 2) % nj / (5 * nj)
    i, j = grid(nj, nm)
    c = i * (j + 3) % nl / (5 * nl)
    i, j = grid(nm, nl)
    d = (i * (j + 2) + 2) % nk / (5 * nk)
    return {"G": np.linalg.multi_dot([a, b, c, d])}


@kernel("atax", (38, 42), (116, 124))
def atax(m, n):
    i, j = grid(m, n)
    a = (i + j) % n / (5 * m)
    return {"y": (a.T @ a) @ (1 + np.arange(n) / n)}


@kernel("bicg", (38, 42), (116, 124))
def bicg(m, n):
    i, j = grid(n, m)
    a = i * (j + 1) % n / n
    return {"s": np.arange(n) / n @ a, "q": a @ (np.arange(m) / m)}


@kernel("doitgen", (8, 10, 12), (20, 25, 30))
def doitgen(nq, nr, np_):
    r, q, p = grid(nr, nq, np_)
    s, t = grid(np_, np_)
    return {"A": np.einsum("rqs,sp->rqp", (r * q + p) % np_ / np_, s * t % np_ / np_)}


@kernel("mvt", (40,), (120,))
def mvt(n):
    i, j = grid(n, n)
    a = i * j % n / n
    x1, x2, y1, y2 = ((np.arange(n) + shift) % n / n for shift in (0, 1, 3, 4))
    return {"x1": x1 + a @ y1, "x2": x2 + y2 @ a}


# ---- linear algebra: solvers ----

def positive_definite(n):
    _, j = grid(n, n)
    factor = np.tril(np.broadcast_to(1 - j / n, (n, n)), -1) + np.eye(n)
    return factor @ factor.T


@kernel("cholesky", (40,), (120,))
def cholesky(n):
    return {"A": linalg.cholesky(positive_definite(n), lower=True)[np.tril_indices(n)]}


@kernel("durbin", (40,), (120,))
def durbin(n):
    r = n + 1.0 - np.arange(n)
    return {"y": linalg.solve(linalg.toeplitz(np.concatenate(([1], r[:-1]))), -r)}


def independent_columns(matrix):
    """The columns of an integer matrix that do not depend on those before them, by elimination modulo a prime."""
    prime = 2**31 - 1
    work = matrix % prime
    row, columns = 0, []
    for k in range(work.shape[1]):
        pivots = np.flatnonzero(work[row:, k])
        if len(pivots) == 0:
            continue
        work[[row, row + pivots[0]]] = work[[row + pivots[0], row]]
        work[row] = work[row] * pow(int(work[row, k]), -1, prime) % prime
        for other in range(row + 1, len(work)):
            work[other] = (work[other] - work[other, k] * work[row]) % prime
        columns.append(k)
        row += 1
        if row == len(work):
            break
    return columns


@kernel("gramschmidt", (20, 30), (60, 80))
def gramschmidt(m, n):
    i, j = grid(m, n)
    a = i * j % m / m * 100 + 10
    columns = independent_columns(i * j % m * 10 + m)  # a * m / 10, which is whole.
    q_part, r_part = np.linalg.qr(a[:, columns])
    q = np.zeros((m, n))
    q[:, columns] = q_part * np.sign(np.diag(r_part))
    r = np.triu(q.T @ a)
    return {"R": r, "Q": q}


@kernel("lu", (40,), (120,))
def lu(n):
    # L L' with a unit diagonal split off: the decomposition without pivoting is unique.
    factor = linalg.cholesky(positive_definite(n), lower=True)
    scale = np.diag(factor)
    return {"A": np.tril(factor / scale, -1) + (factor * scale).T}


@kernel("ludcmp", (40,), (120,))
def ludcmp(n):
    return {"x": linalg.solve(positive_definite(n), np.arange(1, n + 1) / n / 2 + 4, assume_a="pos")}


@kernel("trisolv", (40,), (120,))
def trisolv(n):
    i, j = grid(n, n)
    return {"x": linalg.solve_triangular((i + n - j + 1) * 2 / n, np.arange(n), lower=True)}


# ---- medley ----

@kernel("deriche", (64, 64), (192, 128), np.float32)
def deriche(w, h):
    i, j = grid(w, h)
    alpha = 0.25
    decay = np.exp(-alpha)
    k = (1 - decay) ** 2 / (1 + 2 * alpha * decay - np.exp(2 * alpha))
    causal = [k, k * decay * (alpha - 1)]
    anticausal = [0, k * decay * (alpha + 1), -k * decay**2]
    recursion = [1, -(2**-alpha), decay**2]

    def smooth(image, axis):
        there = signal.lfilter(causal, recursion, image, axis=axis)
        back = np.flip(signal.lfilter(anticausal, recursion, np.flip(image, axis), axis=axis), axis)
        return there + back

    return {"imgOut": smooth(smooth((313 * i + 991 * j) % 65536 / 65535, 1), 0)}


@kernel("floyd-warshall", (60,), (180,), np.int32)
def floyd_warshall(n):
    i, j = grid(n, n)
    no_edge = ((i + j) % 13 == 0) | ((i + j) % 7 == 0) | ((i + j) % 11 == 0)
    edges = np.where(no_edge, 999, i * j % 7 + 1)
    path = csgraph.dijkstra(edges)
    # The benchmark's diagonal is the shortest cycle, a loop of one edge included.
    cycles = path + path.T
    np.fill_diagonal(cycles, np.diag(edges))
    np.fill_diagonal(path, cycles.min(axis=0))
    return {"path": path}


@kernel("nussinov", (60,), (180,), np.int32)
def nussinov(n):
    strand = (np.arange(n) + 1) % 4
    best = np.zeros((n, n), dtype=int)
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            split = (best[i, i:j] + best[i + 1:j + 1, j]).max()  # Into i..k and k+1..j.
            inside = best[i + 1, j - 1] + (strand[i] + strand[j] == 3) if length > 1 else 0
            best[i, j] = max(split, inside)
    return {"table": best[np.triu_indices(n)]}


# ---- stencils ----

@kernel("adi", (20, 20), (40, 60))
def adi(steps, n):
    i, j = grid(n, n)
    u = (i + n - j) / n
    mul1, mul2 = 2 * n * n / steps, n * n / steps

    def half_step(known, mul_known, mul_solved):
        """Explicit along axis 1, implicit along axis 0, ones at the two ends of axis 0. Interior columns only."""
        right = mul_known / 2 * (known[1:-1, :-2] + known[1:-1, 2:]) + (1 - mul_known) * known[1:-1, 1:-1]
        off = -mul_solved / 2
        bands = np.array([[off], [1 + mul_solved], [off]]) * np.ones(n - 2)
        right[0] -= off
        right[-1] -= off
        solved = np.ones((n, n - 2))
        solved[1:-1] = linalg.solve_banded((1, 1), bands, right)
        return solved

    v = np.zeros((n, n))
    for _ in range(steps):
        v[:, 1:-1] = half_step(u, mul2, mul1)
        u[1:-1, :] = half_step(v.T, mul1, mul2).T
    return {"u": u}


@kernel("fdtd-2d", (20, 20, 30), (40, 60, 80))
def fdtd_2d(steps, nx, ny):
    i, j = grid(nx, ny)
    ex, ey, hz = i * (j + 1) / nx, i * (j + 2) / ny, i * (j + 3) / nx
    for t in range(steps):
        ey[1:] -= 0.5 * np.diff(hz, axis=0)
        ey[0] = t
        ex[:, 1:] -= 0.5 * np.diff(hz, axis=1)
        hz[:-1, :-1] -= 0.7 * (np.diff(ex, axis=1)[:-1] + np.diff(ey, axis=0)[:, :-1])
    return {"ex": ex, "ey": ey, "hz": hz}


def relax(field, weights, steps):
    """Replaces the interior by the weighted mean of the neighbourhood, 2 * steps times."""
    interior = (slice(1, -1),) * field.ndim
    for _ in range(2 * steps):
        field[interior] = ndimage.correlate(field, weights)[interior]
    return field


@kernel("heat-3d", (20, 10), (40, 20))
def heat_3d(steps, n):
    i, j, k = grid(n, n, n)
    # A step of an eighth of the discrete Laplace operator.
    weights = ndimage.generate_binary_structure(3, 1) / 8
    weights[1, 1, 1] = 1 - 6 / 8
    return {"A": relax((i + j + n - k) * 10 / n, weights, steps)}


@kernel("jacobi-1d", (20, 30), (40, 120))
def jacobi_1d(steps, n):
    return {"A": relax_alternating(np.arange(2, n + 2) / n, np.arange(3, n + 3) / n, np.full(3, 0.33333), steps)}


@kernel("jacobi-2d", (20, 30), (40, 90))
def jacobi_2d(steps, n):
    i, j = grid(n, n)
    weights = ndimage.generate_binary_structure(2, 1) * 0.2
    return {"A": relax_alternating((i * (j + 2) + 2) / n, (i * (j + 3) + 3) / n, weights, steps)}


def relax_alternating(a, b, weights, steps):
    """As relax, between two fields whose fixed borders differ."""
    interior = (slice(1, -1),) * a.ndim
    for _ in range(steps):
        b[interior] = ndimage.correlate(a, weights)[interior]
        a[interior] = ndimage.correlate(b, weights)[interior]
    return a


@kernel("seidel-2d", (20, 40), (40, 120))
def seidel_2d(steps, n):
    i, j = grid(n, n)
    a = (i * (j + 2) + 2) / n
    ones = np.ones(3)
    for _ in range(steps):
        for row in range(1, n - 1):
            # Within a row, x[j] = (x[j - 1] + known[j]) / 9, a first-order filter.
            known = np.convolve(a[row - 1] + a[row + 1], ones, "valid") + a[row, 1:-1] + a[row, 2:]
            a[row, 1:-1], _ = signal.lfilter([1 / 9], [1, -1 / 9], known, zi=[a[row, 0] / 9])
    return {"A": a}


# ---- the comparison ----

def main():
    parser = argparse.ArgumentParser(description="Compares the PolyBench kernels with numpy and scipy")
    parser.add_argument("--runner", default="target/release/remuda run --", metavar="COMMAND",
                        help="runs a module, as COMMAND FILE.wasm ARGS, from the project's root (default: %(default)s)")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="default: all")
    options = parser.parse_args()
    unknown = set(options.kernels) - set(KERNELS)
    if unknown:
        parser.error(f"no such kernel: {', '.join(sorted(unknown))}")
    failures = 0
    for name in options.kernels or KERNELS:
        for size in KERNELS[name].dims:
            failures += not compare(shlex.split(options.runner), name, size)
    sys.exit(1 if failures else 0)


def compare(runner, name, size):
    """Prints one line, and says whether all is well."""
    _, function, dtype = KERNELS[name]
    want = function(*KERNELS[name].dims[size])
    line, got = run_kernel(runner, name, size, "--dump=full", dtype)
    error = max_error(got, want)
    complaints = []
    if not error <= TOLERANCE[dtype]:
        complaints.append(f"above {TOLERANCE[dtype]:g}")
    if line != checksum_line(name, size, got):
        complaints.append(f"checksum line is {line!r}, should be {checksum_line(name, size, got)!r}")
    _, rounded = run_kernel(runner, name, size, "--dump", str)
    if not same_rounded(got, rounded):
        complaints.append("--dump does not show the rounded values")
    count = sum(values.size for values in got.values())
    verdict = "; ".join(complaints) or "ok"
    print(f"{name:15} {size:5} {' '.join(want):9} {count:6} values  max relative error {error:8.2e}  {verdict}", flush=True)
    return not complaints


def run_kernel(runner, name, size, dump, dtype):
    """The line on stdout and the arrays dumped on stderr, as numbers or (dtype str) as lists of words."""
    command = runner + [str(FOLDER / name / f"{name}.wasm"), size, dump]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit code {result.returncode}\n{result.stderr[-2000:]}")
    lines = result.stderr.splitlines()
    if lines[0] != "==BEGIN DUMP_ARRAYS==" or lines[-1] != "==END   DUMP_ARRAYS==":
        sys.exit(f"{name} {size}: the dump is not framed")
    arrays, words = {}, []
    for line in lines[1:-1]:
        if line.startswith("begin dump: "):
            words = arrays.setdefault(line.removeprefix("begin dump: "), [])
        elif not line.startswith("end   dump: "):
            words += line.split()
    return result.stdout, {key: parse(words, dtype) for key, words in arrays.items()}


def parse(words, dtype):
    if dtype is str:
        return words
    if dtype is np.int32:
        return np.array([int(word) for word in words], dtype)
    return np.array([float.fromhex(word) for word in words]).astype(dtype)


def max_error(got, want):
    if list(got) != list(want) or any(got[key].size != want[key].size for key in want):
        return np.inf
    errors = [0.0]
    for key in want:
        expected = np.asarray(want[key], float).ravel()
        floor = np.abs(expected).mean()
        errors.append(float(np.max(np.abs(got[key] - expected) / np.maximum(np.abs(expected), floor))))
    return max(errors)


def checksum_line(name, size, arrays):
    digest, total, count = 0xCBF29CE484222325, 0.0, 0
    for values in arrays.values():
        for byte in values.astype(values.dtype.newbyteorder("<")).tobytes():
            digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        for value in values.tolist():
            total += value
        count += values.size
    return f"{name} {size} values={count} fnv1a64={digest:016x} sum={total:.5e}\n"


def same_rounded(exact, rounded):
    for key, values in exact.items():
        pattern = "{:d}" if values.dtype == np.int32 else "{:.2f}"
        if [pattern.format(value) for value in values.tolist()] != rounded.get(key):
            return False
    return True


if __name__ == "__main__":
    main()
