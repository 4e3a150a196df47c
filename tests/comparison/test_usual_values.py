"""Who calls a loss that has no default finds in its page what to try."""

import inspect
import re

import numpy as np
import pytest

from lnl_jax import losses
from lnl_jax.comparison.catalogue import CATALOGUE


def required(function):
    """The keywords that must be given."""
    parameters = inspect.signature(function).parameters.values()
    return [
        one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    ]


ENTRIES = [
    name
    for name, entry in CATALOGUE.items()
    if getattr(losses, name, None) is entry.function
    and {*required(entry.function)} & {*entry.grid[0], *entry.fixed}
]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_page_says_what_is_tried_or_what_the_paper_takes(name):
    entry = CATALOGUE[name]
    text = " ".join(inspect.getdoc(entry.function).split())
    text = text[text.index("Args:") : text.index("Returns:")]
    if "paper takes" in text or "paper's rates" in text or "official code takes" in text:
        return
    numbers = {float(found) for found in re.findall(r"\d+(?:\.\d+)?", text)}
    for setting in entry.grid:
        for keyword, value in {**setting, **entry.fixed}.items():
            if keyword in required(entry.function):
                assert {*np.ravel(value).tolist()} <= numbers, f"{keyword} of {value}"
