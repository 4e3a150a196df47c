import numpy as np
import pytest

from lnl_jax.data import epoch_plan, epoch_plans

SEEDS = (3, 4)


def test_an_unshuffled_plan_keeps_the_order_in_every_epoch():
    plan = epoch_plans(6, 2, SEEDS, shuffle=False)
    for epoch in (0, 1):
        for position in range(len(SEEDS)):
            assert plan(epoch)["position"][:, position].ravel().tolist() == list(range(6))
    shuffled = [epoch_plans(6, 2, SEEDS)(epoch)["position"] for epoch in (0, 1)]
    assert (shuffled[0] != shuffled[1]).any()


def test_data_sets_of_one_seed_share_its_order():
    plan = epoch_plans(100, 10, [0, 1, 0, 1], keep=4)(3)["position"]
    np.testing.assert_array_equal(plan[:, 0], plan[:, 2])
    np.testing.assert_array_equal(plan[:, 1], plan[:, 3])
    assert (plan[:, 0] != plan[:, 1]).any()
    fixed = epoch_plans(100, 10, [0], shuffle=False)(3)["position"]
    np.testing.assert_array_equal(fixed.reshape(-1), np.arange(100))


def test_each_order_is_that_of_its_seed_and_epoch_alone():
    plan = epoch_plans(7, 3, SEEDS)
    for epoch in (0, 2, 0):
        for at, seed in enumerate(SEEDS):
            own = epoch_plan(7, 3, np.random.default_rng((seed, epoch)))
            for name, values in own.items():
                np.testing.assert_array_equal(plan(epoch)[name][:, at], values)


@pytest.mark.parametrize(
    ("seeds", "keep", "text"),
    [
        ((), 1, "seeds must hold one"),
        ((1,), 0, "keep must be"),
        ((1, -2), 1, "seeds must be .*, got -2"),
    ],
)
def test_plans_of_nothing_are_refused(seeds, keep, text):
    with pytest.raises(ValueError, match=text):
        epoch_plans(4, 2, seeds, keep=keep)
