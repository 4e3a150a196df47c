"""Batches: which positions of a data set make up each step of an epoch, and the examples there."""

from collections.abc import Iterator, Mapping

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
