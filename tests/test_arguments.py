"""Readers of arguments that several rooms share."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax._arguments import check_range, read_classes, read_labels, read_logits
from lnl_jax._host_arguments import check_integer, host_array, read_class_numbers


def test_a_traced_number_is_not_looked_at():
    def doubled(scale):
        check_range("scale", scale, above=0)
        return 2 * scale

    assert jax.jit(doubled)(jnp.float32(3)) == 6


@pytest.mark.parametrize("value", [None, "1", [None], 2j])
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match="^scale must be above 0 and finite, got"):
        check_range("scale", value, above=0, below=np.inf)


@pytest.mark.parametrize("axis", [1.0, None, 2])
def test_what_is_no_axis_is_named(axis):
    with pytest.raises(ValueError, match=r"axis must be an axis of logits of shape \(2, 3\), got"):
        read_logits(jnp.zeros((2, 3)), axis)


@pytest.mark.parametrize("labels", [np.array([["a"], ["b"]]), [[0], [1]], np.eye(2, dtype=int)])
def test_the_same_labels_are_repaired_alike_on_the_host_and_by_the_losses(labels):
    repairs = set()
    for read in (
        lambda: read_class_numbers(labels),
        lambda: read_classes("labels", labels, (2,)),
        lambda: read_labels("labels", labels, "logits", (2, 5)),
    ):
        with pytest.raises(ValueError, match="^labels must be integers") as error:
            read()
        repairs.add(str(error.value).rpartition("; ")[2])
    assert len(repairs) == 1


@pytest.mark.parametrize("values", [[1 + 2j, 2], np.array([1 + 2j, 2])])
def test_no_imaginary_part_is_dropped_on_the_host(values):
    with pytest.raises(ValueError, match=r"^x must be an array of numbers, got \[.*1.*2"):
        host_array("x", values, np.float64)
    assert host_array("x", values, np.complex128).dtype == np.complex128


def test_there_is_one_check_of_integers():
    for value, bounds, text in (
        (0, {}, "n must be an integer from 1 on, got 0."),
        (2.0, {"at_least": 2}, "n must be an integer from 2 on, got 2.0."),
        (np.int64(4), {"at_most": 3}, "n must be an integer from 1 to 3, got np.int64(4)."),
        (True, {}, "n must be an integer from 1 on, got True."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            check_integer("n", value, **bounds)
    check_integer("n", np.uint8(3), at_most=3)
