"""Networks of flax as functions: first variables, scores on the device, images in chunks."""

from lnl_jax.distill.networks._functions import (
    apply_in_chunks,
    call_network,
    initial_variables,
    percent_right,
    scorer,
)

__all__ = [
    "apply_in_chunks",
    "call_network",
    "initial_variables",
    "percent_right",
    "scorer",
]
