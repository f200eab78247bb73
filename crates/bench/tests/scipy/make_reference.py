#!/usr/bin/env python3
"""Makes reference.json: what numpy and scipy make of fixed data, for `tests/it/statistics.rs`.

    python3 -m venv target/scipy && target/scipy/bin/pip install numpy==2.4.6 scipy==1.17.1
    target/scipy/bin/python crates/bench/tests/scipy/make_reference.py

The data are written into the file too, so that both sides compute from the same digits.
"""

import json
import pathlib

import numpy
import scipy
from scipy import stats

RESAMPLES = 100_000


def series(random):
    """Times as they are measured: skewed, with an outlier here and there."""
    cases = {
        "few": random.lognormal(14, 0.02, 5),
        "some": random.lognormal(14, 0.05, 8),
        "many": random.lognormal(10, 0.3, 31),
        "outlier": numpy.append(random.lognormal(12, 0.03, 10), [9e5]),
        "ties": numpy.array([7.0, 7.0, 8.0, 8.0, 8.0, 9.0, 9.0, 12.0]),
    }
    return {name: [float(f"{value:.6g}") for value in values] for name, values in cases.items()}


def interval(found):
    """The interval; and where its ends may lie if fewer resamples are drawn, with other random numbers. With 2,000 of them
    the probability below an end varies by 0.35 percentage points (one standard deviation), so it is between 1.5 % and
    3.5 % but once in 200 times."""
    drawn = found.bootstrap_distribution
    return {
        "low": float(found.confidence_interval.low),
        "high": float(found.confidence_interval.high),
        "low_between": [float(value) for value in numpy.quantile(drawn, [0.015, 0.035])],
        "high_between": [float(value) for value in numpy.quantile(drawn, [0.965, 0.985])],
    }


def of_one(values):
    array = numpy.array(values)
    found = stats.bootstrap((array,), numpy.median, n_resamples=RESAMPLES, method="percentile", rng=1,
                            vectorized=True)
    return {
        "values": values,
        "median": float(numpy.median(array)),
        "mean": float(array.mean()),
        "geometric_mean": float(stats.gmean(array)),
        "quantiles": [[p, float(numpy.quantile(array, p))] for p in [0.0, 0.025, 0.1, 0.25, 0.5, 0.75, 0.975, 1.0]],
        "median_interval": interval(found),
    }


def of_two(above, below):
    def ratio(one, other, axis=-1):
        return numpy.median(one, axis=axis) / numpy.median(other, axis=axis)

    above, below = numpy.array(above), numpy.array(below)
    found = stats.bootstrap((above, below), ratio, n_resamples=RESAMPLES, method="percentile", rng=2)
    return {
        "above": above.tolist(),
        "below": below.tolist(),
        "ratio": float(ratio(above, below)),
        "interval": interval(found),
    }


def geometric_mean_of_ratios(pairs):
    def mean(*arrays, axis=-1):
        ratios = [numpy.median(one, axis=axis) / numpy.median(other, axis=axis)
                  for one, other in zip(arrays[::2], arrays[1::2])]
        return stats.gmean(numpy.stack(ratios), axis=0)

    arrays = [numpy.array(values) for pair in pairs for values in pair]
    found = stats.bootstrap(arrays, mean, n_resamples=RESAMPLES, method="percentile", rng=3)
    return {
        "pairs": [[list(one), list(other)] for one, other in pairs],
        "value": float(mean(*arrays)),
        "interval": interval(found),
    }


def mser_5(values):
    """MSER-5 as published, written anew and in the plainest way."""
    batches = numpy.array(values)[: len(values) // 5 * 5].reshape(-1, 5).mean(axis=1)
    errors = [batches[cut:].var() / (len(batches) - cut) for cut in range(len(batches) // 2 + 1)]
    return int(numpy.argmin(errors)) * 5


def warm_ups(random):
    cases = []
    for calls, slow, decay in [(60, 0.0, 1.0), (60, 3.0, 4.0), (200, 1.5, 20.0), (103, 8.0, 2.0), (40, 0.5, 60.0)]:
        noise = random.normal(0, 0.02, calls)
        values = [float(f"{value:.6g}") for value in 1000 * (1 + slow * numpy.exp(-numpy.arange(calls) / decay) + noise)]
        cases.append({"values": values, "warm_up": mser_5(values)})
    return cases


def main():
    random = numpy.random.default_rng(20210)
    data = series(random)
    quantiles = [{"tail": tail, "degrees": degrees, "t": float(stats.t.isf(tail, degrees))}
                 for tail in [0.4, 0.025, 1e-3, 2.5e-5, 1e-8] for degrees in [1, 2.5, 4, 8, 30.7, 400]]
    probabilities = [{"t": t, "degrees": degrees, "p": float(stats.t.cdf(t, degrees))}
                     for t in [-20.0, -2.0, -0.3, 0.0, 0.7, 3.0, 12.0] for degrees in [1, 3, 12.5, 200]]
    reference = {
        "made_by": f"numpy {numpy.__version__}, scipy {scipy.__version__}",
        "resamples": RESAMPLES,
        "series": [{"name": name, **of_one(values)} for name, values in data.items()],
        "ratios": [of_two(data["few"], data["some"]), of_two(data["outlier"], data["many"])],
        "geometric_means": [geometric_mean_of_ratios(
            [(data["few"], data["some"]), (data["many"], data["outlier"]), (data["some"], data["ties"])])],
        "student_quantiles": quantiles,
        "student_probabilities": probabilities,
        "warm_ups": warm_ups(random),
    }
    path = pathlib.Path(__file__).with_name("reference.json")
    path.write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
