"""Every label model against its definition; see `cases.py`."""

import jax
import numpy as np
import pytest

from lnl_jax import label_models
from tests.label_models.cases import CASES, WITHOUT_CASE


def copies(tree):
    return jax.tree.map(lambda leaf: np.array(leaf) if np.ndim(leaf) else leaf, tree)


def test_every_public_name_has_a_case_or_a_reason():
    assert CASES.keys() | WITHOUT_CASE.keys() == set(label_models.__all__)
    assert not CASES.keys() & WITHOUT_CASE.keys()
    for name, case in CASES.items():
        assert case.function is getattr(label_models, name)


@pytest.mark.parametrize("name", CASES)
def test_a_function_is_its_definition_and_leaves_what_it_was_given(name):
    case = CASES[name]
    given = copies(case.arguments)
    found = case.function(*case.arguments, **case.settings)
    wanted = case.definition(*given, **case.settings)
    parts = found if isinstance(found, tuple) else (found,)
    wanted = wanted if isinstance(found, tuple) else (wanted,)
    fields = getattr(found, "_fields", range(len(parts)))
    for field, part, right in zip(fields, parts, wanted, strict=True):
        assert np.shape(part) == np.shape(right), field
        np.testing.assert_allclose(
            part, right, rtol=case.tolerance, atol=case.tolerance, err_msg=str(field)
        )
    for before, after in zip(jax.tree.leaves(given), jax.tree.leaves(case.arguments), strict=True):
        if np.ndim(before):
            np.testing.assert_array_equal(before, after)
