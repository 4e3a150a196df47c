"""Networks of flax as functions: first variables, scores on the device, images in chunks."""

from lnl_jax.distill.networks._functions import (
    call_network,
    in_chunks,
    initial_variables,
    percent_right,
    scorer,
)

__all__ = [
    "call_network",
    "in_chunks",
    "initial_variables",
    "percent_right",
    "scorer",
]
