"""What embeddings are worth, with labels and without."""

import jax

from lnl_jax import evaluation, metrics


def balanced_probe_accuracy(
    train: jax.Array,
    label: jax.Array,
    test: jax.Array,
    test_label: jax.Array,
    *,
    num_classes: int,
    l2: float = 1e-3,
) -> jax.Array:
    """Accuracy of a linear probe that is fitted to standardised features, all classes alike.

    Args:
        train: features ``[N, D]`` of the examples that the probe is fitted to.
        label: theirs, ``[N]``.
        test: features ``[M, D]``.
        test_label: theirs, ``[M]``.
        num_classes: K.
        l2: of the probe, above 0.

    Returns:
        A scalar, from 0 to 1.
    """
    probe = evaluation.fit_linear_probe(
        evaluation.standardize(train, train),
        label,
        num_classes=num_classes,
        l2=l2,
        weights=evaluation.balanced_weights(label, num_classes=num_classes),
    )
    scores = evaluation.probe_scores(probe, evaluation.standardize(test, train))
    return metrics.accuracy(scores, test_label).value
