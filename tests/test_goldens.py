"""The numbers of `golden_curves.py`, which `.ci/versions` compares on other versions."""

import json
import warnings

import pytest

from experiments import EXPERIMENTS
from tests import golden_curves


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_every_room_give_the_numbers_of_the_file(dtype, optimised):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = golden_curves.rooms(dtype)
    assert len(found) > 100
    assert golden_curves.differences(found) == []


def test_every_study_has_a_curve_or_a_reason():
    expected = json.loads(golden_curves.CURVES.read_text())
    assert sorted(expected) == sorted(golden_curves.studies())
    assert golden_curves.STUDIES_LEFT_OUT.keys() <= EXPERIMENTS.keys()
    assert all(expected.values())


# Those that take seconds; `.ci/versions` looks at all of them.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["candidate_labels", "ldr_digits"])
def test_a_few_steps_of_a_study_give_the_numbers_of_the_file(name):
    ((_, rows),) = golden_curves.curves([name])
    assert golden_curves.differences_of_curves({name: rows}) == []
