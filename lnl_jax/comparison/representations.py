"""What embeddings are worth, with labels and without."""

import jax

from lnl_jax import evaluation, metrics

# Features [N, D] and labels [N].
Examples = tuple[jax.Array, jax.Array]
# What tells embeddings apart without labels, and whether more of it is better.
LABEL_FREE = {"RankMe": 1, "RankMe of embeddings": 1, "alignment": -1, "uniformity": -1}


def balanced_probe_accuracy(
    train: Examples, *parts: Examples, num_classes: int, l2: float = 1e-3
) -> list[jax.Array]:
    """Accuracies of a linear probe that is fitted to standardised features, all classes alike.

    Args:
        train: features ``[N, D]`` and labels ``[N]`` that the probe is fitted to.
        *parts: features and labels that it is tested on.
        num_classes: K.
        l2: of the probe, above 0.

    Returns:
        A scalar for each part, from 0 to 1.
    """
    features, label = train
    probe = evaluation.fit_linear_probe(
        evaluation.standardize(features, features),
        label,
        num_classes=num_classes,
        l2=l2,
        weights=evaluation.balanced_weights(label, num_classes=num_classes),
    )
    return [
        metrics.accuracy(
            evaluation.probe_scores(probe, evaluation.standardize(found, features)), label
        ).value
        for found, label in parts
    ]


def label_free_scores(
    features: jax.Array, first: jax.Array, second: jax.Array
) -> dict[str, jax.Array]:
    """What `LABEL_FREE` names.

    Args:
        features: of the encoder, ``[N, D]``.
        first: embeddings of one view of each example, of unit norm, ``[N, d]``.
        second: of another view.

    Returns:
        Scalars by name.
    """
    return {
        "RankMe": metrics.effective_rank(features),
        "RankMe of embeddings": metrics.effective_rank(first),
        "alignment": metrics.alignment(first, second).value,
        "uniformity": metrics.uniformity(first),
    }
