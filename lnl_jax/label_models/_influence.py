"""What leaving one example out would change, in closed form: ridge regression and softmax heads."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from lnl_jax._host_arguments import check_number, host_array, host_classes
from lnl_jax.label_models._nearest import read_features

# Newton's steps, halved where they go too far, and the size of the slope that ends them.
NEWTON_STEPS = 100
HALVINGS = 40
SLOPE = 1e-10
# What remains of a residual is divided by one less the leverage.
LEVERAGE = 1e-12


def ridge_leave_one_out(features: ArrayLike, targets: ArrayLike, *, penalty: float) -> np.ndarray:
    r"""Residuals of every example under the ridge regression of all others, without refitting.

    .. math::
        \frac{t_i - x_i^\top w}{1 - h_{ii}}, \qquad w = H^{-1} X^\top t, \quad
        H = X^\top X + \lambda I, \quad h_{ii} = x_i^\top H^{-1} x_i

    Args:
        features: X, ``[N, D]``, finite; a constant column for an intercept is the caller's, and
            penalised as the others.
        targets: t, numbers ``[N]``, or of several outputs ``[N, M]``, as one-hot labels.
        penalty: :math:`\lambda`, not negative; above 0 where features depend on each other.

    Returns:
        float64 residuals in the shape of `targets`; those of a wrong target are large.

    Raises:
        ValueError: if numbers are not finite, shapes do not fit, the penalty is negative, or the
            fit is not determined without an example.

    Example:
        >>> features, targets = np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 5.0])
        >>> ridge_leave_one_out(features, targets, penalty=0.0).round(3).tolist()
        [-0.462, -1.2, 2.0]

    References:
        Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning" (2009), Eq. 7.64.
    """
    features, targets = _read_regression(features, targets)
    _, residuals, free = _fit_ridge(features, targets, penalty)
    return residuals / _as_column(free, residuals)


def ridge_removal_effects(
    features: ArrayLike, targets: ArrayLike, queries: ArrayLike, *, penalty: float
) -> np.ndarray:
    r"""The exact change of ridge predictions at other places when an example is removed.

    .. math::
        -\frac{z^\top H^{-1} x_i \, (t_i - x_i^\top w)}{1 - h_{ii}}

    with w, H and h of `ridge_leave_one_out`.

    Args:
        features: X, ``[N, D]``, finite.
        targets: t, ``[N]`` or ``[N, M]``.
        queries: z, ``[Q, D]``.
        penalty: :math:`\lambda`, not negative.

    Returns:
        float64, ``[N, Q]`` or ``[N, Q, M]``: the prediction at z without example i, less that with
        it.

    Raises:
        ValueError: if numbers are not finite, shapes do not fit, the penalty is negative, or the
            fit is not determined without an example.

    Example:
        >>> features, targets = np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 5.0])
        >>> effects = ridge_removal_effects(features, targets, [[1.0]], penalty=0.0)
        >>> effects[:, 0].round(3).tolist()
        [0.033, 0.171, -0.429]

    References:
        Cook and Weisberg, "Residuals and Influence in Regression" (1982), Chapter 3.
    """
    features, targets = _read_regression(features, targets)
    queries = read_features(queries, "queries", at_least=1).astype(np.float64)
    if queries.shape[1] != features.shape[1]:
        raise ValueError(
            f"queries must have the {features.shape[1]} columns of features, got "
            f"{queries.shape[1]}."
        )
    inverse, residuals, free = _fit_ridge(features, targets, penalty)
    left_out = (residuals / _as_column(free, residuals))[:, None]
    kernel = features @ inverse @ queries.T
    return -left_out * (kernel if targets.ndim == 1 else kernel[..., None])


def _fit_ridge(
    features: np.ndarray, targets: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverse of H, residuals, and one less the leverage of each example."""
    check_number("penalty", penalty, at_least=0)
    matrix = features.T @ features + penalty * np.eye(features.shape[1])
    if np.linalg.matrix_rank(matrix, hermitian=True) < len(matrix):
        raise ValueError(
            "features depend on each other, so that no fit is the only one; give a penalty above 0."
        )
    inverse = np.linalg.inv(matrix)
    residuals = targets - features @ (inverse @ (features.T @ targets))
    free = 1 - np.einsum("nd,de,ne->n", features, inverse, features)
    alone = np.flatnonzero(free < LEVERAGE)
    if alone.size:
        raise ValueError(
            f"features leave no fit without row {alone[0]}, as {alone.size} of {len(features)} "
            "rows alone determine a direction; give a penalty above 0."
        )
    return inverse, residuals, free


def softmax_removal_effects(
    features: ArrayLike,
    labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    penalty: float,
    num_classes: int | None = None,
) -> np.ndarray:
    r"""To first order, how each test loss changes when a training example is removed.

    The head is the linear softmax classifier that minimises the mean cross-entropy plus
    :math:`\tfrac{\lambda}{2} \|W\|^2` on all examples; it is found here by Newton's method. With
    its Hessian H and the gradients g of the losses with respect to W,

    .. math::
        \frac{1}{N} g_{\mathrm{test}}^\top H^{-1} g_i

    which is minus the influence function, over N. Positive: the example helps, its removal raises
    the loss. It takes the inverse of a matrix of D K rows: features of a network should be reduced
    first.

    Args:
        features: ``[N, D]``, finite; a constant column for an intercept is the caller's.
        labels: integers from 0 to K - 1, ``[N]``.
        test_features: ``[Q, D]``.
        test_labels: integers from 0 to K - 1, ``[Q]``; those of the training examples themselves
            tell which of them go against the rest.
        penalty: :math:`\lambda`, above 0: all K rows of W are free, which it makes regular.
        num_classes: K; None takes one more than the largest label.

    Returns:
        float64, ``[N, Q]``; its mean over the last axis is the change of the mean test loss.

    Raises:
        ValueError: if features are not finite or do not fit each other, labels are no classes,
            there are fewer than two, or the penalty is not above 0.

    Example:
        >>> features = np.array([[1.0, 0.0], [0.9, 0.2], [0.0, 1.0], [0.1, 0.9], [1.0, 0.1]])
        >>> labels = np.array([0, 0, 1, 1, 1])
        >>> effects = softmax_removal_effects(features, labels, [[1.0, 0.0]], [0], penalty=0.1)
        >>> int(effects[:, 0].argmin())
        4

    References:
        Koh and Liang, "Understanding Black-box Predictions via Influence Functions" (ICML 2017),
        Eq. 2.
    """
    features = read_features(features, at_least=1).astype(np.float64)
    test_features = read_features(test_features, "test_features", at_least=1).astype(np.float64)
    if test_features.shape[1] != features.shape[1]:
        raise ValueError(
            f"test_features must have the {features.shape[1]} columns of features, got "
            f"{test_features.shape[1]}."
        )
    labels = host_classes(labels, len(features), num_classes)
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if num_classes < 2:
        raise ValueError("labels must be of at least two classes, all are 0.")
    test_labels = host_classes(test_labels, len(test_features), num_classes, "test_labels")
    check_number("penalty", penalty, above=0)
    weights = _fit_softmax(features, np.eye(num_classes)[labels], penalty)
    errors = special.softmax(features @ weights, -1) - np.eye(num_classes)[labels]
    test_errors = special.softmax(test_features @ weights, -1) - np.eye(num_classes)[test_labels]
    gradients = (features[:, :, None] * errors[:, None]).reshape(len(features), -1)
    of_tests = (test_features[:, :, None] * test_errors[:, None]).reshape(len(test_features), -1)
    hessian = _hessian(features, weights, penalty)
    return gradients @ _solve(hessian, of_tests.T) / len(features)


def _fit_softmax(features: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """The weights ``[D, K]`` with the smallest penalised mean cross-entropy."""

    def objective(weights):
        scores = features @ weights
        largest = scores.max(1)
        logs = largest + np.log(np.exp(scores - largest[:, None]).sum(1))
        return (logs - (scores * targets).sum(1)).mean() + penalty / 2 * (weights**2).sum()

    weights = np.zeros((features.shape[1], targets.shape[1]))
    value = objective(weights)
    for _ in range(NEWTON_STEPS):
        errors = special.softmax(features @ weights, -1) - targets
        slope = features.T @ errors / len(features) + penalty * weights
        if np.abs(slope).max() < SLOPE:
            break
        hessian = _hessian(features, weights, penalty)
        step = _solve(hessian, slope.ravel()).reshape(weights.shape)
        for _ in range(HALVINGS):
            new = objective(weights - step)
            if new <= value:
                break
            step /= 2
        weights, value = weights - step, new
    return weights


def _solve(hessian: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(hessian, right)
    except np.linalg.LinAlgError as error:
        raise ValueError(
            "features are so large that the penalty is lost beside their squares: divide them by "
            "their standard deviation, or give a larger penalty."
        ) from error


def _hessian(features: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """Of the objective, ``[D K, D K]``, a pair of classes at a time."""
    shares = special.softmax(features @ weights, -1)
    columns, classes = weights.shape
    hessian = np.empty((columns, classes, columns, classes))
    for k in range(classes):
        for other in range(k, classes):
            curvature = shares[:, k] * ((k == other) - shares[:, other])
            block = (features * curvature[:, None]).T @ features / len(features)
            hessian[:, k, :, other] = hessian[:, other, :, k] = block
    hessian = hessian.reshape(columns * classes, -1)
    hessian[np.diag_indices_from(hessian)] += penalty
    return hessian


def _read_regression(features: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    features = read_features(features, at_least=1).astype(np.float64)
    targets = host_array("targets", targets, np.float64)
    if targets.ndim not in (1, 2) or len(targets) != len(features):
        raise ValueError(
            f"targets must have the shape [N] or [N, M] with N = {len(features)}, got "
            f"{targets.shape}."
        )
    if not np.isfinite(targets).all():
        raise ValueError(f"targets must be finite; {(~np.isfinite(targets)).sum()} are not.")
    return features, targets


def _as_column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """One for each example, beside all its outputs."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
