import jax.numpy as jnp
import numpy as np
import pytest

from experiments.robust_losses.aldr_temperatures import aldr_temperatures
from experiments.robust_losses.topk_consistency import DEFAULT, topk_consistency
from lnl_jax import losses
from lnl_jax.comparison.catalogue import PAPER_LOSSES
from lnl_jax.runner.arguments import StudyError


def test_the_default_has_the_losses_of_the_paper_and_symmetric_ones():
    left_out = set(PAPER_LOSSES) - set(DEFAULT)
    assert left_out == {
        "crammer_singer",
        "weston_watkins",
        "truncated_generalized_cross_entropy",
        "aldr_kl_step",
    }
    assert {"ldr_k2", "ldr_k5", "aldr_kl", "reverse_cross_entropy"} <= set(DEFAULT)
    assert len(set(DEFAULT)) == len(DEFAULT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ("ldr_k5",), "classes": 4}, "losses cannot be ldr_k5 with classes 4: k is"),
        ({"losses": ("forward_correction",)}, "cannot be forward_correction, which is no function"),
        ({"losses": ("aldr_kl_step",)}, "cannot be aldr_kl_step, which is no function of scores"),
        ({"losses": ("ldr_k3",)}, "losses cannot be ldr_k3; did you mean"),
        ({"apart": 0.1}, "least must be below 0.0476 for 6 classes"),
    ],
)
def test_bad_input_of_topk_consistency_is_named(changes, message):
    with pytest.raises(StudyError, match=message):
        next(topk_consistency(**changes))


def test_bad_input_of_aldr_temperatures_is_named():
    with pytest.raises(StudyError, match="noises cannot be clean"):
        next(aldr_temperatures(noises=("clean",)))


def test_the_temperature_of_algorithm_1_does_not_look_at_the_label():
    scores = jnp.asarray(np.random.default_rng(0).normal(0, 3, (6, 5)), jnp.float32)
    rows = [
        losses.aldr_kl_step(
            scores, jnp.full(6, label), jnp.full(6, 2.0), temperature=2.0, margin=0.1
        )[1]
        for label in range(5)
    ]
    for other in rows[1:]:
        np.testing.assert_array_equal(other, rows[0])
    # It does look at how sure the scores are.
    surer = losses.aldr_kl_step(2 * scores, jnp.zeros(6, int), jnp.full(6, 2.0), temperature=2.0)
    assert (surer[1] < rows[0]).all()
