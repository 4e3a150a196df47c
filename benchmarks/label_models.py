"""Label models beside the packages that people use for them, one process for each.

python benchmarks/label_models.py [--sections confident ...] [--json FILE]

Each section makes its input by a seed, has it computed by this library and by its peer, each alone
in a process of its own (the fastest of a few calls; the largest memory of the process, and how much
of it the calls added), and compares the outputs. A peer that is not installed is skipped with a
word; `--peer_python FILE` names the Python where the peers are, if it is another one.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Section(NamedTuple):
    """A task, and who does it; imports are within the functions, so that each loads its own.

    `make(rng, size)` returns the arguments; `ours` and `peer` return a dict of arrays that are
    compared key by key; `peer_package` is what has to be installed.
    """

    make: Callable
    ours: Callable
    peer: Callable
    peer_package: str
    size: int
    calls: int = 3
    tolerance: float = 1e-6


def confident_problem(rng, size):
    """Probabilities over 100 classes of a model that knows most labels, of which a tenth is wrong.

    They are made a part at a time, so that the largest memory is not that of making them.
    """
    probabilities, truth = np.empty((size, 100)), rng.integers(0, 100, size)
    for start in range(0, size, 10_000):
        rows = probabilities[start : start + 10_000]
        rng.standard_exponential(out=rows)
        rows[np.arange(len(rows)), truth[start : start + 10_000]] *= 50
        rows /= rows.sum(-1, keepdims=True)
    labels = np.where(rng.random(size) < 0.1, rng.integers(0, 100, size), truth)
    return probabilities, labels


def our_confident_issues(probabilities, labels):
    """Flags off the diagonal of the confident joint, ranked."""
    from lnl_jax import label_models

    flag = label_models.confident_issues
    issues = label_models.find_label_issues(probabilities, labels, flag=flag)
    return {"flagged, in order": issues.ranking[: issues.flags.sum()]}


def confident_issues_of_cleanlab(probabilities, labels):
    """The same."""
    from cleanlab.filter import find_label_issues

    settings = {"filter_by": "confident_learning", "return_indices_ranked_by": "self_confidence"}
    return {"flagged, in order": find_label_issues(labels, probabilities, **settings)}


def our_pruned_issues(probabilities, labels):
    """The default of both libraries: pruned by noise rate, ranked."""
    from lnl_jax import label_models

    issues = label_models.find_label_issues(probabilities, labels)
    flagged = issues.ranking[: issues.flags.sum()]
    return {"noise matrix": issues.noise_matrix, "flagged, in order": flagged}


def pruned_issues_of_cleanlab(probabilities, labels):
    """The same, in one process, which is its faster way on two cores.

    It rounds the 100 x 100 counts by an unstable sort, so that counts which are as far from a whole
    number fall as NumPy's build has it. There, and only there, its sort is made stable.
    """
    from cleanlab import count, filter

    plain = np.argsort
    try:
        np.argsort = functools.partial(plain, kind="stable")
        joint = count.compute_confident_joint(labels, probabilities)
    finally:
        np.argsort = plain
    settings = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
    flagged = filter.find_label_issues(labels, probabilities, confident_joint=joint, **settings)
    return {"noise matrix": (joint / joint.sum(0)).T, "flagged, in order": flagged}


def make_valued(rng, size):
    """Training examples and a fifth as many test examples, of ten classes."""
    parts = []
    for count in (size, size // 5):
        parts += [rng.normal(size=(count, 64)), rng.integers(0, 10, count)]
    return tuple(parts)


def our_knn_shapley(*arguments):
    """All test examples of a block together."""
    from lnl_jax import label_models

    return {"values": label_models.knn_shapley(*arguments, num_neighbours=10)}


def looped_knn_shapley(features, labels, test_features, test_labels):
    """The recursion as the paper states it, a test example at a time, in NumPy."""
    k, size, total = 10, len(labels), np.zeros(len(labels))
    for x, y in zip(test_features, test_labels, strict=True):
        nearest_first = np.argsort(((features - x) ** 2).sum(1), kind="stable")
        matches = (labels[nearest_first] == y).astype(float)
        value = matches[-1] / size
        total[nearest_first[-1]] += value
        for j in range(size - 1, 0, -1):
            value += (matches[j - 1] - matches[j]) / k * min(k, j) / j
            total[nearest_first[j - 1]] += value
    return {"values": total / len(test_labels)}


def crowd(rng, labels):
    """Triples of item, annotator and label: five labels an item, 1,000 annotators, four classes."""
    items, annotators, classes, each = labels // 5, 1000, 4, 5
    truth = rng.integers(0, classes, items)
    # One annotator of each of five teams.
    who = np.arange(each) + each * rng.integers(0, annotators // each, (items, each))
    # Numbered from 0 without gaps, where there are too few labels for all of them.
    who = np.unique(who, return_inverse=True)[1].reshape(items, each)
    skill = rng.uniform(0.1, 0.7, annotators)[who]
    guess = rng.integers(0, classes, (items, each))
    label = np.where(rng.random((items, each)) < skill, truth[:, None], guess)
    item = np.repeat(np.arange(items), each)
    return (np.stack([item, who.ravel(), label.ravel()], 1),)


def dawid_skene(triples):
    """Ours."""
    from lnl_jax import label_models

    found = label_models.dawid_skene(triples)
    return {"probabilities": found.probabilities, "iterations": np.array(found.iterations)}


def dawid_skene_of_crowd_kit(triples):
    """Crowd-Kit's, from the same triples."""
    # isort: off
    from crowdkit.aggregation import DawidSkene
    import pandas  # comes with it

    model = DawidSkene()
    frame = pandas.DataFrame(triples, columns=["task", "worker", "label"])
    found = model.fit_predict_proba(frame).sort_index().sort_index(axis=1)
    return {
        "probabilities": found.to_numpy(),
        "iterations": np.array(len(model.loss_history_)),
    }


SECTIONS: dict[str, Section] = {
    "dawid_skene": Section(
        crowd, dawid_skene, dawid_skene_of_crowd_kit, "crowdkit", 1_000_000, calls=2
    ),
    "confident": Section(
        confident_problem,
        our_confident_issues,
        confident_issues_of_cleanlab,
        "cleanlab",
        1_000_000,
    ),
    "confident_pruned": Section(
        confident_problem,
        our_pruned_issues,
        pruned_issues_of_cleanlab,
        "cleanlab",
        1_000_000,
    ),
    "knn_shapley": Section(
        make_valued, our_knn_shapley, looped_knn_shapley, "numpy", 10_000, calls=1
    ),
}


def measure(section, function, size):
    """In this process: the fastest call, memory before and after, and the result.

    Where others use the machine too, the time of its own on all cores says more.
    """
    arguments = section.make(np.random.default_rng(0), size)
    before = peak()
    seconds, on_cores = [], []
    for _ in range(section.calls):
        start, start_on_cores = time.perf_counter(), time.process_time()
        result = function(*arguments)
        seconds.append(time.perf_counter() - start)
        on_cores.append(time.process_time() - start_on_cores)
    found = {"seconds": min(seconds), "on cores": min(on_cores)}
    return found | {"before": before, "peak": peak(), "result": result}


def peak():
    """The largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# Before the names of the arrays of a result, in the file of a measurement.
RESULT = "result: "


def in_process(python, name, who, size):
    """`measure` in a process of its own; None if the package is not installed there."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "result.npz"
        command = [python, __file__, "--alone", name, who, str(size), str(file)]
        paths = [str(pathlib.Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        subprocess.run(command, check=True, env=environment)
        with np.load(file) as found:
            values = {key: found[key] for key in found}
    if not values:
        return None
    result = {key[len(RESULT) :]: v for key, v in values.items() if key.startswith(RESULT)}
    numbers = {key: float(v) for key, v in values.items() if not key.startswith(RESULT)}
    return numbers | {"result": result}


def alone(name, who, size, file):
    """What a process does that was started for one measurement."""
    section = SECTIONS[name]
    try:
        found = measure(section, getattr(section, who), int(size))
    except ModuleNotFoundError as error:
        if error.name != section.peer_package:
            raise
        found = {}
    result = {RESULT + key: value for key, value in found.pop("result", {}).items()}
    np.savez(file, **found, **result)


def compare(name, size, peer_python):
    """One section, printed and returned without the arrays."""
    section = SECTIONS[name]
    size = size or section.size
    found = {"ours": in_process(sys.executable, name, "ours", size)}
    peer = in_process(peer_python, name, "peer", size)
    if peer is None:
        print(f"{name}: {section.peer_package} is not installed, so only ours was measured")
    else:
        found[section.peer_package] = peer
        for key, wanted in peer["result"].items():
            np.testing.assert_allclose(
                found["ours"]["result"][key], wanted, rtol=section.tolerance, atol=1e-12
            )
    for who, numbers in found.items():
        del numbers["result"]
        print(
            f"{name}, {size} examples, {who}: {numbers['seconds']:.3f} s "
            f"({numbers['on cores']:.3f} s on cores), {numbers['peak']:.0f} MiB "
            f"({numbers['peak'] - numbers['before']:.0f} more than before the calls)"
        )
    return found | {"size": size, "equal": peer is not None}


def main():
    """Command line."""
    if sys.argv[1:2] == ["--alone"]:
        alone(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--size", type=int, help="other than each section's own")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    found = {
        name: compare(name, arguments.size, arguments.peer_python) for name in arguments.sections
    }
    if arguments.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "numpy": np.__version__}
        arguments.json.write_text(json.dumps(machine | found, indent=2) + "\n")


if __name__ == "__main__":
    main()
