"""Distilled images: real patches stitched, or pixels that are optimised."""

from lnl_jax.distill.images._batch_statistics import (
    batch_norm_gap,
    batch_norm_inputs,
    batch_norm_statistics,
)
from lnl_jax.distill.images._distilled import (
    ImageSet,
    best_crops,
    distilled_sets,
    random_image_set,
    stored_images,
    updated_images,
)
from lnl_jax.distill.images._figures import (
    image_figure,
    sets_figure,
)
from lnl_jax.distill.images._folder import (
    FolderParts,
    Reading,
    cropped_pass,
    folder_accuracies,
    folder_parts,
    folder_start,
    skipped_table,
    steps_per_pass,
    train_on_folder,
)
from lnl_jax.distill.images._parts import (
    ImageParts,
    check_per_class,
    digit_parts,
    image_parts,
    split_off,
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
from lnl_jax.distill.images._stitched import (
    JpegSet,
    PatchPool,
    check_patch_counts,
    choose_patches,
    decoded_batches,
    random_jpegs,
    stitched_jpegs,
    stitched_sets,
    updated_jpegs,
)
from lnl_jax.distill.images._streamed_views import (
    streamed_views,
)
from lnl_jax.distill.images._synthesis import (
    image_update,
    recover,
)

__all__ = [
    "FolderParts",
    "ImageParts",
    "ImageSet",
    "JpegSet",
    "PatchPool",
    "Reading",
    "batch_norm_gap",
    "batch_norm_inputs",
    "batch_norm_statistics",
    "best_crops",
    "check_patch_counts",
    "check_per_class",
    "choose_patches",
    "cropped_pass",
    "decoded_batches",
    "digit_parts",
    "distilled_sets",
    "folder_accuracies",
    "folder_parts",
    "folder_start",
    "image_figure",
    "image_parts",
    "image_update",
    "on_zeros",
    "patch_selection",
    "prune_and_combine",
    "random_image_set",
    "random_images",
    "random_jpegs",
    "ranked_crops",
    "recover",
    "sets_figure",
    "skipped_table",
    "split_off",
    "steps_per_pass",
    "stitch",
    "stitched_jpegs",
    "stitched_sets",
    "stored_images",
    "streamed_views",
    "tile_boxes",
    "train_on_folder",
    "updated_images",
    "updated_jpegs",
]
