import numpy as np
import pytest

from lnl_jax import comparison
from lnl_jax.comparison import BagWeights


def bags(rng):
    """Examples of one column whose sign is the label, in bags of four."""
    x = rng.normal(size=(1, 40, 4, 1)) + rng.normal(size=(1, 40, 1, 1))
    return np.float32(x), x[..., 0] > 0


def test_each_weight_is_enough_to_learn_its_own(rng):
    x, label = bags(rng)
    weights = [BagWeights(labels=1.0), BagWeights(proportion=1.0), BagWeights(embedding=1.0)]
    given = [np.concatenate([values] * 3) for values in (x, label, label.mean(-1))]
    # The labels of those that do not learn them are turned round.
    given[1][1:] = ~given[1][1:]
    test = np.linspace(-2, 2, 21, dtype=np.float32)[None, :, None].repeat(3, 0)
    found = comparison.train_on_bags(*given, test, weights, seeds=[0, 0, 0], epochs=60)
    assert found.embeddings.shape == (3, 40, 4, 64)
    assert found.odds.shape == (3, 40, 4)
    for odds in found.test_odds[:2]:
        assert ((odds > 0) == (test[0, :, 0] > 0)).mean() > 0.9
    # The head of the examples learns nothing from the head of the bag.
    assert ((found.odds[0] > 0) == label[0]).mean() > 0.9
    assert not np.allclose(found.embeddings[2], found.embeddings[0])


REFUSED = {
    "rows without bags": ({"inputs": np.ones((1, 40, 1))}, "inputs must have the shape"),
    "labels of other bags": ({"labels": np.ones((1, 40, 3))}, "labels must have the shape"),
    "counts for shares": ({"shares": np.full((1, 40), 2)}, "shares must be from 0 to 1"),
    "test rows of other columns": (
        {"test_inputs": np.ones((1, 2, 3))},
        "test_inputs must have the shape",
    ),
    "a network too few": ({"seeds": [0, 1]}, "weights and seeds must be one for each of the 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_argument_that_does_not_fit_is_named(case, rng):
    given, message = REFUSED[case]
    x, label = bags(rng)
    usual = {"inputs": x, "labels": label, "shares": label.mean(-1), "seeds": [0]}
    usual |= {"test_inputs": x[:, 0], "weights": [BagWeights(labels=1.0)]}
    with pytest.raises(ValueError, match=message):
        comparison.train_on_bags(**usual | given)
