"""Training as functions: a step, tables of per-example state, epochs; no loss and no model."""

from lnl_jax.train.checkpoint import (
    best_step,
    latest_metadata,
    open_checkpoints,
    restore,
    restore_latest,
    save,
)
from lnl_jax.train.chunks import chunk_size, data_sets_that_fit, in_chunks, run_bytes
from lnl_jax.train.data_parallel import data_parallel
from lnl_jax.train.lockstep import Runs, Trainer, fit_together, in_lanes
from lnl_jax.train.lockstep_in_turn import in_turn
from lnl_jax.train.loop import (
    dispatch_in_turn,
    dispatch_steps,
    evaluate,
    fit,
    gather_batches,
    run_steps,
    scan_steps,
)
from lnl_jax.train.memory import device_bytes, free_bytes, program_bytes
from lnl_jax.train.not_finite import NotFiniteError, skip_not_finite
from lnl_jax.train.over_devices import (
    DevicesError,
    batch_mesh,
    lanes_mesh,
    mesh_at_hand,
    over_devices,
)
from lnl_jax.train.pieces import SoFar, in_pieces, no_sums
from lnl_jax.train.schedules import sigmoid_ramp_up, staircase_schedule
from lnl_jax.train.sharding import data_mesh, local_mesh, on_this_process, replicate, shard_batch
from lnl_jax.train.step import TrainState, init_state, make_eval_step, make_train_step
from lnl_jax.train.table_rows import (
    fingerprint,
    grow,
    page_in,
    page_out,
    remap,
    shard_tables,
    with_spare_rows,
    without_spare_rows,
)
from lnl_jax.train.tables import OfUpdates, Table, segment_last, segment_log_mean_exp, segment_mean

__all__ = [
    "DevicesError",
    "NotFiniteError",
    "OfUpdates",
    "Runs",
    "SoFar",
    "Table",
    "TrainState",
    "Trainer",
    "batch_mesh",
    "best_step",
    "chunk_size",
    "data_mesh",
    "data_parallel",
    "data_sets_that_fit",
    "device_bytes",
    "dispatch_in_turn",
    "dispatch_steps",
    "evaluate",
    "fingerprint",
    "fit",
    "fit_together",
    "free_bytes",
    "gather_batches",
    "grow",
    "in_chunks",
    "in_lanes",
    "in_pieces",
    "in_turn",
    "init_state",
    "lanes_mesh",
    "latest_metadata",
    "local_mesh",
    "make_eval_step",
    "make_train_step",
    "mesh_at_hand",
    "no_sums",
    "on_this_process",
    "open_checkpoints",
    "over_devices",
    "page_in",
    "page_out",
    "program_bytes",
    "remap",
    "replicate",
    "restore",
    "restore_latest",
    "run_bytes",
    "run_steps",
    "save",
    "scan_steps",
    "segment_last",
    "segment_log_mean_exp",
    "segment_mean",
    "shard_batch",
    "shard_tables",
    "skip_not_finite",
    "sigmoid_ramp_up",
    "staircase_schedule",
    "with_spare_rows",
    "without_spare_rows",
]
