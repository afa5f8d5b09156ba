"""A vector index library, for `cargo xtask bench index`.

Usage: index_peer.py NAME VECTORS QUERIES DIMENSIONS NEIGHBOURS. Writes a line of JSON when it is ready, then answers every
line of its input with one: `build THREADS` takes in the vectors, `search WIDTH THREADS FILE` asks for the neighbours of all
queries and writes their ids to a file. Both files hold little-endian f32, row by row.
"""

import json
import os
import sys
import time

import numpy

# The same for every graph, ours included.
LINKS = 16
CONSTRUCTION_WIDTH = 100


class Hnswlib:
    def __init__(self, dimensions):
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=dimensions)
        self.version = f"hnswlib {version('hnswlib')}"

    def build(self, vectors, threads):
        self.index.init_index(len(vectors), M=LINKS, ef_construction=CONSTRUCTION_WIDTH, random_seed=0)
        self.index.add_items(vectors, num_threads=threads)

    def search(self, queries, neighbours, width, threads):
        self.index.set_ef(width)
        return self.index.knn_query(queries, neighbours, num_threads=threads)[0]


class Faiss:
    def __init__(self, make, title):
        import faiss

        self.faiss = faiss
        self.index = make(faiss)
        self.version = f"faiss {faiss.__version__}, {title}"

    def build(self, vectors, threads):
        self.faiss.omp_set_num_threads(threads)
        self.index.add(vectors)

    def search(self, queries, neighbours, width, threads):
        self.faiss.omp_set_num_threads(threads)
        return self.index.search(queries, neighbours)[1]


class FaissHnsw(Faiss):
    def __init__(self, dimensions):
        super().__init__(
            lambda faiss: faiss.IndexHNSWFlat(dimensions, LINKS, faiss.METRIC_INNER_PRODUCT), "IndexHNSWFlat"
        )
        self.index.hnsw.efConstruction = CONSTRUCTION_WIDTH

    def search(self, queries, neighbours, width, threads):
        self.index.hnsw.efSearch = width
        return super().search(queries, neighbours, width, threads)


class FaissFlat(Faiss):
    def __init__(self, dimensions):
        super().__init__(lambda faiss: faiss.IndexFlatIP(dimensions), "IndexFlatIP")

    def search(self, queries, neighbours, width, threads):
        one = super().search
        return numpy.concatenate([one(queries[i : i + 1], neighbours, width, threads) for i in range(len(queries))])


class FaissFlatBatch(Faiss):
    def __init__(self, dimensions):
        super().__init__(lambda faiss: faiss.IndexFlatIP(dimensions), "IndexFlatIP, all queries together")


class Usearch:
    def __init__(self, dimensions):
        from usearch.index import Index

        self.index = Index(
            ndim=dimensions, metric="ip", dtype="f32", connectivity=LINKS, expansion_add=CONSTRUCTION_WIDTH
        )
        self.version = f"usearch {version('usearch')}"

    def build(self, vectors, threads):
        self.index.add(numpy.arange(len(vectors), dtype=numpy.uint64), vectors, threads=threads)

    def search(self, queries, neighbours, width, threads):
        self.index.expansion_search = width
        return self.index.search(queries, neighbours, threads=threads).keys


PEERS = {
    "hnswlib": Hnswlib,
    "faiss-hnsw": FaissHnsw,
    "faiss-flat": FaissFlat,
    "faiss-flat-batch": FaissFlatBatch,
    "usearch": Usearch,
}


def version(package):
    from importlib.metadata import version

    return version(package)


def anonymous_mebibytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon:"))


def main(name, vectors, queries, dimensions, neighbours):
    # Libraries print what they like; answers go to the real standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    shape = (-1, int(dimensions))
    vectors = numpy.memmap(vectors, "<f4", "r").reshape(shape)
    queries = numpy.fromfile(queries, "<f4").reshape(shape)
    peer = PEERS[name](int(dimensions))
    print(json.dumps({"peer": peer.version}), file=answers, flush=True)
    for line in sys.stdin:
        verb, *arguments = line.split()
        before = anonymous_mebibytes()
        start = time.perf_counter()
        if verb == "build":
            peer.build(vectors, int(arguments[0]))
            answer = {"seconds": time.perf_counter() - start, "mebibytes": anonymous_mebibytes() - before}
        else:
            width, threads, file = arguments
            found = peer.search(queries, int(neighbours), int(width), int(threads))
            answer = {"seconds": time.perf_counter() - start}
            found.astype("<u8").tofile(file)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
