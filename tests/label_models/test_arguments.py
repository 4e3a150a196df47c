"""What the label models refuse, each with a line that names the argument."""

import numpy as np
import pytest

from lnl_jax import label_models

RECORDS = np.ones((2, 3, 4)) / 4

REFUSED = {
    "one hot classes": (
        lambda: label_models.area_under_margin(RECORDS, np.eye(3, 4, dtype=int)),
        "labels must be integers.*argmax",
    ),
    "a class too many": (
        lambda: label_models.area_under_margin(RECORDS, np.array([4, 0, 1])),
        "labels must be from 0 to 3",
    ),
    "margins of one class": (
        lambda: label_models.area_under_margin(RECORDS[..., :1], np.zeros(3, int)),
        "at least two classes",
    ),
    "hits of integers": (
        lambda: label_models.forgetting(np.ones((2, 3), int)),
        r"correct must be boolean of shape \[T, N\], got int64",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_argument_that_does_not_fit_is_named(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


# What the docstrings cite, by title: who wrote it.
AUTHORS = {
    "An Empirical Study of Example Forgetting during Deep Neural Network Learning": "Toneva et al.",
    "Identifying Mislabeled Data using the Area Under the Margin Ranking": "Pleiss et al.",
}


def test_papers_are_cited_with_their_authors():
    found = {}
    for name in label_models.__all__:
        text = " ".join((getattr(label_models, name).__doc__ or "").split())
        for title in AUTHORS:
            before, cited, _ = text.partition(f', "{title}"')
            found |= {title: before} if cited else {}
    assert found.keys() == AUTHORS.keys()
    assert not {title for title, before in found.items() if not before.endswith(AUTHORS[title])}
