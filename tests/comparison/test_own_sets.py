"""What titles, tables and messages call a data set is what the command line calls it."""

import numpy as np
import pytest

from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.comparison.table_sets import TABLE_SETS, plain_name
from lnl_jax.comparison.whole_sets import WHOLE_SETS


@pytest.mark.parametrize("sets", [OWN_SETS, TABLE_SETS, WHOLE_SETS], ids=["own", "table", "whole"])
def test_a_set_has_the_name_that_chooses_it(sets):
    assert {name: plain_name(load) for name, load in sets.items()} == {name: name for name in sets}


@pytest.fixture
def store(tmp_path):
    """Writes four images of two classes, and what else is given."""

    def write(**others):
        images, labels = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 0, 1])
        arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
        np.savez(tmp_path / "data.npz", **arrays, **others)
        return str(tmp_path)

    return write


def test_a_message_calls_an_npz_by_this_name(store):
    with pytest.raises(ValueError, match="^npz must be a table of numbers"):
        TABLE_SETS["npz"](store())


def test_no_two_classes_have_one_name(store):
    assert OWN_SETS["npz"](store(class_names=["cat", "dog"])).class_names == ("cat", "dog")
    with pytest.raises(ValueError, match=r"class_names of data\.npz must differ, got cat twice"):
        OWN_SETS["npz"](store(class_names=["cat", "cat"]))
