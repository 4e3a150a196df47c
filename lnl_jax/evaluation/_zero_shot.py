"""Classification without training: the class whose descriptions are most similar."""

import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import as_array
from lnl_jax.evaluation._features import unit_rows


def class_embeddings(texts: Array) -> Array:
    """One direction per class from several descriptions: the normalised mean of unit vectors.

    Args:
        texts: embeddings of P descriptions of each of K classes, of any norm, ``[K, P, D]``. One
            of norm 0 has no direction: it stays 0, with gradient 0, as does a mean of norm 0.

    Returns:
        Of unit norm, ``[K, D]``, float32.

    Raises:
        ValueError: if `texts` is not floating or has not three dimensions.

    Example:
        >>> class_embeddings(jnp.array([[[2.0, 0.0], [5.0, 0.0]]])).tolist()
        [[1.0, 0.0]]

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (ICML 2021), section 3.1.4, the ensemble over prompts.
    """
    texts = as_array("texts", texts)
    if texts.ndim != 3 or not texts.shape[1] or not jnp.issubdtype(texts.dtype, jnp.floating):
        raise ValueError(
            f"texts must be floating of shape [K, P, D], got {texts.dtype} of shape {texts.shape}."
        )
    return unit_rows(unit_rows(texts.astype(jnp.float32)).mean(1))


def zero_shot_scores(images: Array, classes: Array) -> Array:
    """Cosine similarities of images to classes.

    Args:
        images: embeddings of any norm, ``[N, D]``; one of norm 0 scores 0, with gradient 0.
        classes: from `class_embeddings`, ``[K, D]``.

    Returns:
        ``[N, K]``, float32, from -1 to 1; the largest is the predicted class.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> zero_shot_scores(jnp.array([[0.0, 3.0]]), jnp.eye(2)).tolist()
        [[0.0, 1.0]]
    """
    images, classes = as_array("images", images), as_array("classes", classes)
    if images.ndim != 2 or classes.ndim != 2 or images.shape[1] != classes.shape[1]:
        raise ValueError(
            f"images and classes must have the shapes [N, D] and [K, D], got {images.shape} and "
            f"{classes.shape}."
        )
    return unit_rows(images.astype(jnp.float32)) @ classes.T
