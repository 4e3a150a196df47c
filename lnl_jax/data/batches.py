"""Batches: which positions of a data set make up each step of an epoch, and the examples there."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from lnl_jax._host_arguments import check_generator, check_integer, common_length

LARGEST_POSITION = int(np.iinfo(np.int32).max)


def epoch_plan(
    num_examples: int, batch_size: int, rng: np.random.Generator | None = None
) -> dict[str, np.ndarray]:
    """The positions of every example once, cut into batches; the last one is padded.

    A plan is small enough to be handed to a compiled epoch whole. Make its generator from the seed
    and the epoch, ``np.random.default_rng((seed, epoch))``, and an interrupted run sees the same
    batches when it goes on.

    Args:
        num_examples: N.
        batch_size: B.
        rng: shuffles; None keeps the order.

    Returns:
        ``position``, int32, and ``mask``, boolean, false for padding, both ``[S, B]`` with S steps.
        Padding repeats position 0.

    Raises:
        ValueError: if either number is no integer from 1 on that fits into int32, or `rng` is no
            generator.

    Example:
        >>> plan = epoch_plan(5, 2)
        >>> plan["position"].tolist(), plan["mask"].tolist()
        ([[0, 1], [2, 3], [4, 0]], [[True, True], [True, True], [True, False]])
    """
    check_integer("num_examples", num_examples, at_least=1, at_most=LARGEST_POSITION)
    check_integer("batch_size", batch_size, at_least=1, at_most=LARGEST_POSITION)
    if rng is not None:
        check_generator("rng", rng)
    steps = -(-num_examples // batch_size)
    position = np.zeros(steps * batch_size, np.int32)
    position[:num_examples] = (
        np.arange(num_examples) if rng is None else rng.permutation(num_examples)
    )
    mask = np.arange(steps * batch_size) < num_examples
    return {
        "position": position.reshape(steps, batch_size),
        "mask": mask.reshape(steps, batch_size),
    }


def epoch_plans(
    num_examples: int,
    batch_size: int,
    seeds: Sequence[int],
    *,
    shuffle: bool = True,
    keep: int = 1,
) -> Callable[[int], dict[str, np.ndarray]]:
    """The plans of several data sets of one size, an order for each seed and epoch.

    Data sets with the same seed share their order, so that their differences are paired.

    Args:
        num_examples: N, of each data set.
        batch_size: B.
        seeds: one for each of the D data sets.
        shuffle: whether the order changes from epoch to epoch; otherwise it is that of the data.
        keep: how many epochs are kept for those who ask again.

    Returns:
        ``epoch -> plan``, numbered from 0: ``position`` and ``mask`` as of `epoch_plan`, ``[S, D,
        B]``.

    Raises:
        ValueError: if there is no seed, one is no integer from 0 on, or `keep` none from 1 on; when
            called, as `epoch_plan`.

    Example:
        >>> plan = epoch_plans(4, 2, [7, 7, 8])
        >>> plan(0)["position"].shape
        (2, 3, 2)
        >>> bool((plan(0)["position"][:, 0] == plan(0)["position"][:, 1]).all())
        True
    """
    check_integer("keep", keep, at_least=1)
    own = sorted(set(seeds))
    if not own:
        raise ValueError("seeds must hold one for each data set, got none.")
    for seed in own:
        check_integer("seeds", seed, at_least=0)
    at = [own.index(seed) for seed in seeds]

    @functools.lru_cache(maxsize=keep)
    def of_seeds(epoch: int) -> list[dict[str, np.ndarray]]:
        generators = [np.random.default_rng((seed, epoch)) if shuffle else None for seed in own]
        return [epoch_plan(num_examples, batch_size, rng) for rng in generators]

    def plan(epoch: int) -> dict[str, np.ndarray]:
        plans = of_seeds(epoch)
        return {name: np.stack([plans[i][name] for i in at], 1) for name in plans[0]}

    return plan


def take(dataset: Mapping, rows: Mapping) -> dict:
    """One batch: the examples at ``rows["position"]``, with the mask. NumPy or JAX arrays.

    Args:
        dataset: arrays with leading dimension N, ``index`` among them.
        rows: one step of an `epoch_plan`: ``position`` and ``mask``, ``[B]``.

    Returns:
        A dict of arrays with leading dimension B, and ``mask``.
    """
    batch = {name: values[rows["position"]] for name, values in dataset.items()}
    return batch | {"mask": rows["mask"]}


def batches(
    dataset: Mapping, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[dict]:
    """All the batches of one epoch, one after the other.

    Args:
        dataset: arrays with leading dimension N, ``index`` among them.
        batch_size: B; the last batch is padded to it and masked.
        rng: shuffles; None keeps the order.

    Yields:
        Dicts of arrays with leading dimension B; ``index`` is the row of the training set, whatever
        part of it `dataset` is, and ``mask`` is false for padding.

    Raises:
        ValueError: if the columns differ in length, ``index`` is missing, or `batch_size` is no
            integer from 1 on.

    Example:
        >>> [batch["index"].tolist() for batch in batches({"index": np.array([4, 8, 9])}, 2)]
        [[4, 8], [9, 4]]
    """
    if "index" not in dataset:
        raise ValueError(
            "dataset must hold index, the row of each example: for all of a training set "
            "np.arange(N, dtype=np.int32)."
        )
    plan = epoch_plan(common_length(dataset), batch_size, rng)
    for step in range(len(plan["mask"])):
        yield take(dataset, {name: values[step] for name, values in plan.items()})
