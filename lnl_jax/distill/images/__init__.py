"""Distilled images: real patches stitched, or pixels that are optimised."""

from lnl_jax.distill.images._batch_statistics import (
    batch_norm_gap,
    batch_norm_inputs,
    batch_norm_statistics,
)
from lnl_jax.distill.images._patches import (
    on_zeros,
    patch_selection,
    prune_and_combine,
    random_images,
    ranked_crops,
    stitch,
    tile_boxes,
)
from lnl_jax.distill.images._synthesis import (
    image_update,
    recover,
)

__all__ = [
    "batch_norm_gap",
    "batch_norm_inputs",
    "batch_norm_statistics",
    "image_update",
    "on_zeros",
    "patch_selection",
    "prune_and_combine",
    "random_images",
    "ranked_crops",
    "recover",
    "stitch",
    "tile_boxes",
]
