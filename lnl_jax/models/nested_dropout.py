"""Features in an order of importance: training leaves all beyond a random one out."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.models._checks import check_sizes


def prefix_probabilities(num_features: int, *, deviation: float, mean: float = 0.0) -> np.ndarray:
    r"""The law of how many features training keeps.

    .. math::
        P(k) \propto \exp\left(-\left(\frac{k - \mu}{\sigma}\right)^2\right), \qquad k = 1, \dots, D

    Args:
        num_features: D, at least 1.
        deviation: :math:`\sigma > 0`; the official code takes 10 for CIFAR-10, 100 for CIFAR-100.
        mean: :math:`\mu`.

    Returns:
        The probabilities of 1 to D, float64, ``[D]``.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> prefix_probabilities(3, deviation=2.0).round(3).tolist()
        [0.622, 0.294, 0.084]

    References:
        Chen et al., "Compressing Features for Learning with Noisy Labels" (TNNLS 2022), nested
        dropout; the law is that of the official code, which has no factor 1/2.
    """
    check_integer("num_features", num_features)
    check_number("deviation", deviation, above=0)
    check_number("mean", mean)
    exponents = -(((np.arange(1, num_features + 1) - mean) / deviation) ** 2)
    mass = np.exp(exponents - exponents.max())
    return mass / mass.sum()


def best_prefix(accuracies: np.ndarray, *, price: float = 1e-5) -> int:
    """The number of features with the best validation accuracy, fewer where it is nearly equal.

    Args:
        accuracies: with the first 1 to D features, ``[D]``.
        price: of a feature, in accuracy, at least 0.

    Returns:
        From 1 to D.

    Raises:
        ValueError: if there are none, or one is not finite.

    Example:
        >>> best_prefix(np.array([0.5, 0.8, 0.8]))
        2

    References:
        Chen et al., "Compressing Features for Learning with Noisy Labels" (TNNLS 2022), the choice
        of the official code.
    """
    accuracies = np.asarray(accuracies, np.float64)
    if accuracies.ndim != 1 or not accuracies.size or not np.isfinite(accuracies).all():
        raise ValueError(
            f"accuracies must be finite, one per number of features, [D]; got {accuracies}."
        )
    check_number("price", price, at_least=0)
    return int((accuracies - price * np.arange(1, len(accuracies) + 1)).argmax()) + 1


class NestedDropout(nn.Module):
    """A network whose first features matter most, as it was trained with the first few of them.

    Nothing is scaled up for the features that are left out, and the last layer has no bias.

    Attributes:
        num_classes: K.
        encoder: a module of this package with as many scores as there are features, D.
        activation: on the features.

    Example:
        >>> import jax
        >>> from lnl_jax.models import MLP
        >>> model = NestedDropout(10, MLP(num_classes=8, hidden=(16,)))
        >>> variables = model.init(jax.random.key(0), jnp.ones((5, 4)))
        >>> model.apply(variables, jnp.ones((5, 4)), size=3).shape
        (5, 10)
        >>> model.apply(variables, jnp.ones((5, 4)), method="prefix_scores").shape
        (8, 5, 10)

    References:
        Chen et al., "Compressing Features for Learning with Noisy Labels" (TNNLS 2022), nested
        dropout; Rippel et al., "Learning Ordered Representations with Nested Dropout" (ICML 2014).
    """

    num_classes: int
    encoder: Any
    activation: Callable[[Array], Array] = nn.tanh

    def setup(self) -> None:
        """Makes the last layer."""
        check_sizes(num_classes=self.num_classes)
        self.kernel = self.param(
            "kernel",
            nn.initializers.xavier_normal(),
            (self.encoder.num_classes, self.num_classes),
        )

    def __call__(
        self,
        inputs: Array,
        *,
        size: ArrayLike | None = None,
        train: bool = False,
        mask: Array | None = None,
    ) -> Array:
        """Scores.

        Args:
            inputs: of the encoder, ``[B, ...]``.
            size: how many features count, from 1 to D, an integer or a traced one; None means all.
            train: handed to the encoder.
            mask: handed to the encoder.

        Returns:
            ``[B, K]``, float32.
        """
        features = self._features(inputs, train, mask)
        if size is not None:
            kept = jnp.arange(features.shape[-1]) < size
            features = jnp.where(kept[None], features, 0)
        return features @ self.kernel

    def prefix_scores(self, inputs: Array) -> Array:
        """The scores with the first 1 to D features, ``[D, B, K]``: a running sum."""
        features = self._features(inputs, False, None)
        return jnp.cumsum(features.T[:, :, None] * self.kernel[:, None, :], 0)

    def _features(self, inputs: Array, train: bool, mask: Array | None) -> Array:
        return self.activation(self.encoder(inputs, train=train, mask=mask).astype(jnp.float32))
