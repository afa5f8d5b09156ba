"""A peer of `cargo xtask bench fewshot`: scikit-learn's heads, and k-means.

Arguments: a file of float32 vectors, a file with the label of each as a JSON list, dimensions. Prints a line of JSON when
ready, then answers every line of its input: {"labelled", "queries"} with the marks of every head, {"pool", "clusters",
"seed"} with the images nearest to the centres of so many clusters.
"""

import json
import sys
import warnings

import numpy as np
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

# As the measure of ours.
BINS = 15


def marks(probabilities, classes, truths):
    best = probabilities.argmax(axis=1)
    right = classes[best] == truths
    shares = [right[truths == truth].mean() for truth in np.unique(truths)]
    confidence = probabilities[np.arange(len(best)), best]
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs((confidence[bins == b] - right[bins == b]).sum()) for b in range(BINS)]
    wanted = (classes[None, :] == truths[:, None]).astype(float)
    brier = ((probabilities - wanted) ** 2).sum(axis=1).mean()
    return {
        "accuracy": float(np.mean(shares)),
        "calibration_error": float(sum(gaps) / len(best)),
        "brier": float(brier),
    }


def heads(smallest):
    """Those that can be fitted on so many labelled images of the smallest class, with scikit-learn's defaults for λ."""
    logistic = LogisticRegression(max_iter=2000)
    yield "scikit-learn logistic", logistic
    yield "scikit-learn k-NN", KNeighborsClassifier(min(5, 2 * smallest - 1), weights="distance", metric="cosine")
    if smallest > 1:
        yield "scikit-learn LDA", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        folds = min(5, smallest)
        yield "scikit-learn logistic, calibrated", CalibratedClassifierCV(logistic, method="sigmoid", cv=folds)


def main():
    vectors = np.fromfile(sys.argv[1], np.float32).reshape(-1, int(sys.argv[3]))
    with open(sys.argv[2]) as file:
        labels = np.asarray(json.load(file))
    warnings.filterwarnings("ignore")
    print(json.dumps({"version": sklearn.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "clusters" in request:
            pool = np.asarray(request["pool"])
            model = KMeans(request["clusters"], n_init=1, random_state=request["seed"]).fit(vectors[pool])
            # The nearest image to each centre; empty clusters and doubles choose none.
            distances = model.transform(vectors[pool])
            chosen = np.unique(distances.argmin(axis=0))
            print(json.dumps({"chosen": pool[chosen].tolist()}), flush=True)
            continue
        labelled, queries = np.asarray(request["labelled"]), np.asarray(request["queries"])
        smallest = int(np.unique(labels[labelled], return_counts=True)[1].min())
        answer = {}
        for name, model in heads(smallest):
            model.fit(vectors[labelled], labels[labelled])
            probabilities = model.predict_proba(vectors[queries])
            answer[name] = marks(probabilities, model.classes_, labels[queries])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
