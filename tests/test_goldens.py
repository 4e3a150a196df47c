"""The numbers of `golden_curves.py`, which `.ci/versions` compares on other versions."""

import warnings

import pytest

from tests import golden_curves


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_every_room_give_the_numbers_of_the_file(dtype, optimised):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = golden_curves.rooms(dtype)
    assert len(found) > 100
    assert golden_curves.differences(found) == []
