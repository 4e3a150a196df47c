"""Every loss once, with its definition in float64 NumPy; test_contract.py tests them all.

A reference takes the scores of one example, its label as a distribution and the hyperparameters,
and is written from the definition, not from the implementation.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from lnl_jax import losses


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A loss, its definition, values for its traced hyperparameters, and its other arguments.

    `static`: arguments that are not traced. `arrays`: functions of K that give arguments with a
    class on each axis. `outside`: values out of range, where -0.5 is not. `detached`: its gradient
    is by design not that of its value; test_golden.py checks it. `labels_held`: nor is that in the
    labels, on which what is held depends. `infinite`: why the loss is infinite where a wrong class
    scores -inf. `kinks`: at which scores it has no derivative; test_derivatives.py checks the
    subgradient there. `variant`: another setting of a loss that is listed already, left to the slow
    tests.
    """

    function: Callable
    reference: Callable
    hyperparameters: dict[str, float] = dataclasses.field(default_factory=dict)
    static: dict[str, object] = dataclasses.field(default_factory=dict)
    arrays: dict[str, Callable[[int], np.ndarray]] = dataclasses.field(default_factory=dict)
    outside: dict[str, float] = dataclasses.field(default_factory=dict)
    detached: bool = False
    labels_held: bool = False
    infinite: str = ""
    kinks: str = ""
    variant: bool = False

    def __call__(self, logits, labels, **overrides):
        num_classes = logits.shape[overrides.get("axis", -1)]
        return self.function(logits, labels, **self.arguments(num_classes) | overrides)

    def arguments(self, num_classes):
        arrays = {name: make(num_classes) for name, make in self.arrays.items()}
        return self.hyperparameters | self.static | arrays

    def of_classes(self, classes, num_classes):
        """The arrays for some of the classes, or for all in another order."""
        arrays = {name: make(num_classes) for name, make in self.arrays.items()}
        return {
            name: jnp.asarray(array[np.ix_(*array.ndim * [classes])], jnp.float32)
            for name, array in arrays.items()
        }

    def expected(self, logits, labels, **overrides):
        """The reference for each example of a batch, integer or soft labels."""
        logits = np.asarray(logits, np.float64)
        labels = np.asarray(labels)
        if labels.ndim < logits.ndim:
            labels = np.eye(logits.shape[-1])[labels]
        settings = self.arguments(logits.shape[-1]) | overrides
        settings = {
            name: np.asarray(value) if isinstance(value, jnp.ndarray) else value
            for name, value in settings.items()
        }
        return np.array(
            [self.reference(f, y, **settings) for f, y in zip(logits, labels, strict=True)]
        )


def gaps(f, y, margin):
    return f - y @ f + margin * (1 - y)


def divergence_from_uniform(p):
    return special.xlogy(p, p * len(p)).sum()


def ldr_kl(f, y, *, temperature, margin, top_k=1):
    """The maximum over p <= 1/k itself: p from its optimality condition, the value from p."""
    delta = gaps(f, y, margin)

    def mass(level):
        return np.minimum(
            1 / top_k, np.exp(np.minimum((delta - level) / temperature, 700)) / len(f)
        )

    low = delta.min() - temperature * 50
    high = delta.max() + temperature * 50
    p = mass(optimize.brentq(lambda level: mass(level).sum() - 1, low, high, xtol=1e-14))
    return p @ delta - temperature * divergence_from_uniform(p)


def aldr_objective(delta, temperature, initial, alpha):
    tempered = temperature * (special.logsumexp(delta / temperature) - np.log(len(delta)))
    return tempered - alpha * np.log(len(delta)) / (2 * initial) * (temperature - initial) ** 2


def aldr_temperature(f, y, *, temperature, alpha, margin):
    """Plain iteration of the fixed-point equation from both ends, and the better of the two."""
    delta = gaps(f, y, margin)
    found = []
    for adapted in (temperature, temperature * (1 - 1 / alpha)):
        for _ in range(20_000):
            before = adapted
            p = special.softmax(delta / adapted)
            adapted = temperature * (1 - divergence_from_uniform(p) / (alpha * np.log(len(f))))
            if abs(adapted - before) < 1e-14 * temperature:
                break
        found.append(adapted)
    return max(found, key=lambda adapted: aldr_objective(delta, adapted, temperature, alpha))


def aldr_kl(f, y, *, temperature, alpha, margin):
    adapted = aldr_temperature(f, y, temperature=temperature, alpha=alpha, margin=margin)
    return aldr_objective(gaps(f, y, margin), adapted, temperature, alpha)


ROW = 0.8


def aldr_kl_step(f, y, *, temperature, alpha, margin):
    p = special.softmax(f / ROW) + 1e-5
    p /= p.sum()
    adapted = temperature * (1 - divergence_from_uniform(p) / (alpha * np.log(len(f))))
    return aldr_objective(gaps(f, y, margin), adapted, temperature, alpha)


def first_visit(logits, labels, *, axis=-1, **hyperparameters):
    """`aldr_kl_step` as a loss: every example's stored temperature is ROW."""
    # Split over devices as the logits are.
    rows = jnp.zeros_like(logits.max(axis), jnp.float32) + ROW
    return losses.aldr_kl_step(logits, labels, rows, axis=axis, **hyperparameters)[0]


def clipped(f, floor):
    return np.clip(special.softmax(f), floor, 1 - floor)


# What is stored of every example, and of every class of it.
TARGET, U, V, LOG_NORMALIZER = 0.1, 0.3, 0.1, 0.5


def stored(value, logits, axis):
    """Rows of a value per class, the classes last; split over devices as the logits are."""
    return jnp.zeros_like(jnp.moveaxis(logits, axis, -1), jnp.float32) + value


def visit_elr(logits, labels, *, axis=-1, **arguments):
    """`elr_step` as a loss."""
    rows = stored(TARGET, logits, axis)
    return losses.elr_step(logits, labels, rows, axis=axis, **arguments)[0]


def visit_sop(logits, labels, *, axis=-1, **arguments):
    """`sop_step` as a loss."""
    v = stored(V, logits, axis)
    rows = losses.SopRows(v.max(-1) - V + U, v)
    return losses.sop_step(logits, labels, rows, axis=axis, **arguments)[0]


def visit_scent(logits, labels, *, axis=-1, **arguments):
    """`scent_step` as a loss."""
    rows = stored(LOG_NORMALIZER, logits, axis).max(-1)
    return losses.scent_step(logits, labels, rows, axis=axis, **arguments)[0]


def elr_step(f, y, *, momentum, weight, floor):
    p = clipped(f, floor)
    new = momentum * TARGET + (1 - momentum) * p / p.sum()
    return cross_entropy(f, y) + weight * np.log(1 - new @ p)


def early_learning_regularization(f, y, *, floor):
    return np.log(1 - y @ clipped(f, floor))


def sop_step(f, y, *, rate_u, rate_v):
    del rate_u, rate_v  # of the next rows
    on_label, on_others = np.clip(U**2 * y, 0, 1), np.clip(V**2 * (1 - y), 0, 1)
    q = np.maximum(special.softmax(f) + on_label - on_others, 1e-4)
    q = np.clip(q / q.sum(), 1e-4, 1)
    predicted = np.eye(len(f))[f.argmax()]
    return -y @ np.log(q) + ((predicted + on_label - on_others - y) ** 2).sum()


def scent_step(f, y, *, log_step):
    mean = (1 - y) @ np.exp(f - y @ f) / (len(f) - 1)
    share = special.expit(log_step + LOG_NORMALIZER)
    return mean / ((1 - share) * np.exp(LOG_NORMALIZER) + share * mean)


def epsilon_softmax_cross_entropy(f, y, *, mass, floor):
    q = (special.softmax(f) + mass * np.eye(len(f))[f.argmax()]) / (mass + 1)
    return -y @ np.log(np.maximum(q, floor))


def negative(terms, y):
    return 1 - y @ terms / terms.sum()


def normalized_negative_cross_entropy(f, y, *, floor):
    return negative(np.log(np.maximum(special.softmax(f), floor)) - np.log(floor), y)


def normalized_negative_focal(f, y, *, gamma, floor):
    def focal(u):
        return -((1 - u) ** gamma) * np.log(u)

    return negative(focal(floor) - focal(np.maximum(special.softmax(f), floor)), y)


def confidence_regularized_cross_entropy(f, y, *, weight):
    return cross_entropy(f, y) + weight * np.log(special.softmax(f) + 1e-8).mean()


def log_confidence(f, y, *, weight, thresholds):
    hardened = np.eye(len(f))[(special.softmax(f) / thresholds).argmax()]
    return cross_entropy(f, (1 - weight) * y + weight * hardened)


def class_thresholds(num_classes):
    return np.linspace(0.2, 0.6, num_classes)


def generalized_cross_entropy(f, y, *, q):
    return (1 - (y @ special.softmax(f)) ** q) / q


def truncated_generalized_cross_entropy(f, y, *, q, threshold):
    return (
        generalized_cross_entropy(f, y, q=q)
        if y @ special.softmax(f) > threshold
        else (1 - threshold**q) / q
    )


def taylor_cross_entropy(f, y, *, order):
    return sum((1 - y @ special.softmax(f)) ** j / j for j in range(1, order + 1))


def partially_huberised_cross_entropy(f, y, *, temperature):
    p = y @ special.softmax(f)
    return -np.log(p) if p > 1 / temperature else -temperature * p + np.log(temperature) + 1


def cross_entropy(f, y):
    return -special.xlogy(y, special.softmax(f)).sum()


def mean_absolute_error(f, y):
    return np.abs(y - special.softmax(f)).sum()


def mean_squared_error(f, y):
    return ((y - special.softmax(f)) ** 2).sum()


def reverse_cross_entropy(f, y, *, log_zero):
    return -special.softmax(f) @ np.log(np.maximum(y, np.exp(log_zero)))


def symmetric_cross_entropy(f, y, *, alpha, beta, log_zero=-4.0):
    return alpha * cross_entropy(f, y) + beta * reverse_cross_entropy(f, y, log_zero=log_zero)


def tempered_log(x, t):
    return (x ** (1 - t) - 1) / (1 - t)


def bi_tempered_logistic(f, y, *, t1, t2):
    def softmax(level):
        return (1 + (1 - t2) * (f - level)) ** (1 / (1 - t2))

    # From where the largest has all the mass to where K equal ones would share it.
    last = f.max() - tempered_log(1 / len(f), t2)
    p = softmax(optimize.brentq(lambda level: softmax(level).sum() - 1, f.max(), last, xtol=1e-14))
    y_log_y = np.where(y > 0, y * tempered_log(np.where(y > 0, y, 1), t1), 0)
    cross = y_log_y - y * tempered_log(p, t1)
    return (cross - (y ** (2 - t1) - p ** (2 - t1)) / (2 - t1)).sum()


def averaged_over_labels(loss):
    """A loss of a class as one of a distribution, its mean."""
    return lambda f, y, **settings: sum(
        weight * loss(f, label, **settings) for label, weight in enumerate(y)
    )


@averaged_over_labels
def robust_log_loss(f, label, *, alpha):
    p = special.softmax(f)
    others = np.delete(np.log(alpha + p), label).sum() / (len(f) - 1)
    return np.log((alpha + 1) / alpha) - np.log(alpha + p[label]) + others


@averaged_over_labels
def normalized_cross_entropy(f, label):
    log_p = special.log_softmax(f)
    return log_p[label] / log_p.sum()


@averaged_over_labels
def normalized_focal(f, label, *, gamma):
    focal = (1 - special.softmax(f)) ** gamma * special.log_softmax(f)
    return focal[label] / focal.sum()


def asymmetric_generalized_cross_entropy(f, y, *, a, q):
    return ((a + 1) ** q - (a + y @ special.softmax(f)) ** q) / q


def asymmetric_unhinged(f, y, *, a, q):
    return ((a - y @ special.softmax(f)) ** q - (a - 1) ** q) / q


def asymmetric_exponential(f, y, *, a):
    return np.exp(-(y @ special.softmax(f)) / a)


def entropy(p):
    return special.entr(p).sum()


def jensen_shannon(f, y, *, weight):
    p = special.softmax(f)
    mixture = weight * y + (1 - weight) * p
    divergence = entropy(mixture) - weight * entropy(y) - (1 - weight) * entropy(p)
    return divergence / (-(1 - weight) * np.log(1 - weight))


def two_views(logits, labels, *, axis=-1, **arguments):
    """The generalised divergence with a second, flatter view."""
    views = jnp.stack([logits, logits * jnp.asarray(0.5, logits.dtype)])
    return losses.generalized_jensen_shannon(views, labels, axis=axis, **arguments)


def generalized_jensen_shannon(f, y, *, weights):
    distributions = [y, special.softmax(f), special.softmax(0.5 * f)]
    mixture = sum(weight * p for weight, p in zip(weights, distributions, strict=True))
    mean = sum(weight * entropy(p) for weight, p in zip(weights, distributions, strict=True))
    return (entropy(mixture) - mean) / (-(1 - weights[0]) * np.log(1 - weights[0]))


def crammer_singer(f, y, *, margin):
    return np.maximum(gaps(f, y, margin), 0).max()


def weston_watkins(f, y, *, margin):
    return np.maximum(gaps(f, y, margin), 0).mean()


def ldam(f, y, *, class_counts, max_margin, scale):
    margins = class_counts**-0.25
    margins = max_margin * margins / margins.max()
    return cross_entropy(scale * (f - margins * y), y)


def soft_bootstrap(f, y, *, weight):
    return cross_entropy(f, weight * y + (1 - weight) * special.softmax(f))


def hard_bootstrap(f, y, *, weight):
    predicted = np.eye(len(f))[f.argmax()]
    return cross_entropy(f, weight * y + (1 - weight) * predicted)


def forward_correction(f, y, *, matrix):
    return -special.xlogy(y, matrix.T @ special.softmax(f)).sum()


def backward_correction(f, y, *, matrix):
    return -y @ np.linalg.inv(matrix) @ special.log_softmax(f)


def long_tail(num_classes):
    return np.geomspace(1000.0, 10.0, num_classes)


def transition(num_classes):
    """Different for each class; a little of it cannot happen."""
    away = np.random.default_rng(0).dirichlet(np.ones(num_classes), size=num_classes)
    matrix = 0.6 * np.eye(num_classes) + 0.4 * away
    matrix[0, -1] = 0
    return matrix / matrix.sum(-1, keepdims=True)


CASES = {
    "ldr_kl": Case(losses.ldr_kl, ldr_kl, {"temperature": 0.7, "margin": 0.0}),
    "ldr_kl_margin": Case(losses.ldr_kl, ldr_kl, {"temperature": 2.0, "margin": 0.3}, variant=True),
    "ldr_kl_top_2": Case(losses.ldr_kl, ldr_kl, {"temperature": 0.7, "margin": 0.3}, {"top_k": 2}),
    "aldr_kl": Case(losses.aldr_kl, aldr_kl, {"temperature": 1.0, "alpha": 2.0, "margin": 0.1}),
    "aldr_kl_soft": Case(
        losses.aldr_kl, aldr_kl, {"temperature": 5.0, "alpha": 1.3, "margin": 0.0}, variant=True
    ),
    "aldr_kl_step": Case(
        first_visit,
        aldr_kl_step,
        {"temperature": 1.0, "alpha": 2.0, "margin": 0.1},
        detached=True,
    ),
    "elr_step": Case(
        visit_elr,
        elr_step,
        {"momentum": 0.7, "weight": 3.0, "floor": 1e-4},
        outside={"momentum": 1.0},
        detached=True,
    ),
    "sop_step": Case(
        visit_sop,
        sop_step,
        {"rate_u": 0.1, "rate_v": 0.1},
        detached=True,
        labels_held=True,
        kinks="equal maxima",
    ),
    "scent_step": Case(
        visit_scent,
        scent_step,
        {"log_step": 0.3},
        outside={"log_step": np.inf},
        detached=True,
        labels_held=True,
    ),
    "early_learning_regularization": Case(
        losses.early_learning_regularization,
        early_learning_regularization,
        {"floor": 1e-4},
        outside={"floor": 0.5},
    ),
    "epsilon_softmax_cross_entropy": Case(
        losses.epsilon_softmax_cross_entropy,
        epsilon_softmax_cross_entropy,
        {"mass": 10.0, "floor": 1e-8},
        kinks="equal maxima",
    ),
    "normalized_negative_cross_entropy": Case(
        losses.normalized_negative_cross_entropy, normalized_negative_cross_entropy, {"floor": 1e-7}
    ),
    "normalized_negative_focal": Case(
        losses.normalized_negative_focal,
        normalized_negative_focal,
        {"gamma": 0.5, "floor": 1e-7},
        detached=True,
    ),
    "confidence_regularized_cross_entropy": Case(
        losses.confidence_regularized_cross_entropy,
        confidence_regularized_cross_entropy,
        {"weight": 0.7},
    ),
    "log_confidence": Case(
        losses.log_confidence,
        log_confidence,
        {"weight": 0.3},
        arrays={"thresholds": class_thresholds},
        kinks="equal maxima",
    ),
    "generalized_cross_entropy": Case(
        losses.generalized_cross_entropy, generalized_cross_entropy, {"q": 0.7}
    ),
    "truncated_generalized_cross_entropy": Case(
        losses.truncated_generalized_cross_entropy,
        truncated_generalized_cross_entropy,
        {"q": 0.7, "threshold": 0.3},
    ),
    "taylor_cross_entropy": Case(
        losses.taylor_cross_entropy, taylor_cross_entropy, static={"order": 4}
    ),
    "partially_huberised_cross_entropy": Case(
        losses.partially_huberised_cross_entropy,
        partially_huberised_cross_entropy,
        {"temperature": 3.0},
    ),
    "bi_tempered_logistic": Case(
        losses.bi_tempered_logistic,
        bi_tempered_logistic,
        {"t1": 0.7, "t2": 1.3},
        outside={"t2": 0.5},
    ),
    "mean_absolute_error": Case(losses.mean_absolute_error, mean_absolute_error),
    "mean_squared_error": Case(losses.mean_squared_error, mean_squared_error),
    "reverse_cross_entropy": Case(
        losses.reverse_cross_entropy,
        reverse_cross_entropy,
        {"log_zero": -4.0},
        outside={"log_zero": 0.5},
    ),
    "symmetric_cross_entropy": Case(
        losses.symmetric_cross_entropy, symmetric_cross_entropy, {"alpha": 0.3, "beta": 1.2}
    ),
    "robust_log_loss": Case(losses.robust_log_loss, robust_log_loss, {"alpha": 0.1}),
    "normalized_cross_entropy": Case(losses.normalized_cross_entropy, normalized_cross_entropy),
    "normalized_focal": Case(losses.normalized_focal, normalized_focal, {"gamma": 0.5}),
    "asymmetric_generalized_cross_entropy": Case(
        losses.asymmetric_generalized_cross_entropy,
        asymmetric_generalized_cross_entropy,
        {"a": 3.0, "q": 1.5},
    ),
    "asymmetric_unhinged": Case(
        losses.asymmetric_unhinged, asymmetric_unhinged, {"a": 6.0, "q": 1.5}
    ),
    "asymmetric_exponential": Case(
        losses.asymmetric_exponential, asymmetric_exponential, {"a": 2.0}
    ),
    "jensen_shannon": Case(losses.jensen_shannon, jensen_shannon, {"weight": 0.3}),
    "generalized_jensen_shannon": Case(
        two_views, generalized_jensen_shannon, static={"weights": (0.3, 0.5, 0.2)}
    ),
    "crammer_singer": Case(
        losses.crammer_singer, crammer_singer, {"margin": 1.0}, kinks="equal maxima"
    ),
    "weston_watkins": Case(losses.weston_watkins, weston_watkins, {"margin": 1.0}),
    "ldam": Case(
        losses.ldam, ldam, {"max_margin": 0.5, "scale": 3.0}, arrays={"class_counts": long_tail}
    ),
    "soft_bootstrap": Case(losses.soft_bootstrap, soft_bootstrap, {"weight": 0.7}),
    "hard_bootstrap": Case(
        losses.hard_bootstrap, hard_bootstrap, {"weight": 0.7}, kinks="equal maxima"
    ),
    "forward_correction": Case(
        losses.forward_correction, forward_correction, arrays={"matrix": transition}
    ),
    "backward_correction": Case(
        losses.backward_correction,
        backward_correction,
        arrays={"matrix": transition},
        infinite="the cross-entropy with every class has a coefficient",
    ),
}
# Public names that are not losses of (logits, labels), and where their own contract is.
OTHERS = {
    "SopRows": "rows of sop_step; test_sop.py",
    "aldr_temperature": "not 0 where the loss is: the temperature of a loss; test_aldr.py",
    "class_balanced_weights": "takes the numbers of examples of the classes; test_margin.py",
    "confidence_thresholds": "returns a threshold of each class; test_noise_losses.py",
    "confident": "returns whether a label is believed, no number; test_cross_entropy.py",
    "elr_table": "makes a table of rows; test_elr.py",
    "l1_mean_normalize": "returns scores; test_normalize.py",
    "log_normalizer_step": "takes and returns rows; test_scent.py",
    "logit_clip": "returns scores; test_normalize.py",
    "logit_normalize": "returns scores; test_normalize.py",
    "scent_table": "makes a table of rows; test_scent.py",
    "softplus_mean_normalize": "returns scores; test_normalize.py",
    "sop_table": "makes a table of rows; test_sop.py",
}
