"""A peer of `cargo xtask bench logistic`: one library's multinomial logistic regression.

Arguments: the peer, a file of float32 features, then classes, examples per class, dimensions and λ. Examples come class by
class. Prints a line of JSON when ready, then answers every line `fit TOLERANCE` of its input with the seconds that took
and the objective reached, (Σ −log p + λ/2·‖W‖²) / n in float64.
"""

import json
import os
import sys
import time
import warnings

import numpy as np


def scikit_learn(solver, dtype):
    import sklearn
    from sklearn.linear_model import LogisticRegression

    def fit(features, labels, l2, tolerance):
        model = LogisticRegression(
            fit_intercept=False, C=1 / l2, solver=solver, tol=tolerance, max_iter=10_000
        )
        return model.fit(features, labels).coef_

    return f"scikit-learn {sklearn.__version__}, {solver}, {np.dtype(dtype).name}", dtype, fit


def cyanure(dtype):
    from importlib.metadata import version

    from cyanure.estimators import Classifier

    def fit(features, labels, l2, tolerance):
        model = Classifier(
            loss="multiclass-logistic", penalty="l2", lambda_1=l2 / len(labels), fit_intercept=False,
            tol=tolerance, max_iter=10_000, verbose=False,
        )
        weights = np.asarray(model.fit(features, labels).coef_)
        return weights if weights.shape[1] == features.shape[1] else weights.T

    return f"cyanure {version('cyanure')}, {np.dtype(dtype).name}", dtype, fit


PEERS = {
    "lbfgs-float64": lambda: scikit_learn("lbfgs", np.float64),
    "lbfgs-float32": lambda: scikit_learn("lbfgs", np.float32),
    "newton-cg-float64": lambda: scikit_learn("newton-cg", np.float64),
    "cyanure-float32": lambda: cyanure(np.float32),
}


def objective(weights, features, labels, l2):
    total = 0.5 * l2 * (weights**2).sum()
    for start in range(0, len(labels), 1000):
        rows = slice(start, start + 1000)
        logits = features[rows] @ weights.T
        logits -= logits.max(axis=1, keepdims=True)
        own = np.take_along_axis(logits, labels[rows, None], axis=1)
        total += (np.log(np.exp(logits).sum(axis=1, keepdims=True)) - own).sum()
    return total / len(labels)


def main():
    # Libraries print what they like; answers go to the real standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    peer, path, classes, per_class, dimensions, l2 = sys.argv[1:]
    classes, per_class, dimensions, l2 = int(classes), int(per_class), int(dimensions), float(l2)
    try:
        name, dtype, fit = PEERS[peer]()
    except ImportError as error:
        print(json.dumps({"absent": str(error)}), file=answers, flush=True)
        return
    features = np.fromfile(path, dtype=np.float32).reshape(-1, dimensions)
    labels = np.repeat(np.arange(classes), per_class)
    given, exact = features.astype(dtype), features.astype(np.float64)
    print(json.dumps({"peer": name}), file=answers, flush=True)
    for line in sys.stdin:
        tolerance = float(line.split()[1])
        started = time.perf_counter()
        weights = fit(given, labels, l2, tolerance)
        seconds = time.perf_counter() - started
        reached = objective(weights.astype(np.float64), exact, labels, l2)
        print(json.dumps({"seconds": seconds, "objective": reached}), file=answers, flush=True)


main()
