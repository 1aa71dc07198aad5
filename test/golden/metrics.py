"""Writes metrics.json: the scores of section 4.3 by SciPy and NumPy, for test/metrics.test.ts. python3 metrics.py (SciPy 1.17.1 made the file)."""

import json
import pathlib

import numpy
import scipy.stats

draw = numpy.random.Generator(numpy.random.PCG64(7))
cases = []
for count, slope, noise, offset in [(3, 1, 0.5, 0), (12, -2, 3, 1e3), (40, 0.5, 1, -7), (200, 0, 1, 0), (25, 1e-3, 1e-4, 50)]:
    truth = numpy.round(draw.normal(size=count) * 3, 1)  # rounded, so that some do not change
    estimate = slope * truth + noise * draw.normal(size=count) + offset
    changed = truth != 0
    cases.append(
        {
            "truth": truth.tolist(),
            "estimate": estimate.tolist(),
            "mae": float(numpy.abs(estimate - truth).mean()),
            "correlation": float(scipy.stats.pearsonr(estimate, truth).statistic),
            "accuracy": float((numpy.sign(estimate) == numpy.sign(truth))[changed].mean()),
            "quantiles": numpy.percentile(estimate, [0, 2.5, 50, 97.5, 100]).tolist(),
        }
    )
path = pathlib.Path(__file__).with_name("metrics.json")
path.write_text(json.dumps({"scipy": scipy.__version__, "numpy": numpy.__version__, "cases": cases}) + "\n")
