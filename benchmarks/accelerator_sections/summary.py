"""What the rows say of the aims, and JAX's side beside PyTorch's."""

from collections.abc import Callable, Iterable
from typing import Any

from accelerator_sections import JAX, TORCH
from accelerator_sections.record import Record

# Losses of the label's probability alone, of which as much is asked as of LDR-KL.
OF_ONE_PROBABILITY = (
    "generalized_cross_entropy",
    "mean_absolute_error",
    "partially_huberised_cross_entropy",
    "reverse_cross_entropy",
    "symmetric_cross_entropy",
    "taylor_cross_entropy",
    "truncated_generalized_cross_entropy",
)
LARGE = [4096, 50257]


def aims(record: Record) -> list[dict[str, Any]]:
    """An entry for each aim: what was found, and whether it was reached; None if not measured."""
    found: list[dict[str, Any]] = []

    def add(aim: str, value: float | None, reached: Callable[[float], bool]) -> None:
        found.append(
            {"aim": aim, "found": value, "reached": None if value is None else reached(value)}
        )

    in_b = {
        row["loss"]: row.get("memory_share")
        for row in record.rows("b", JAX)
        if list(row.get("shape", ())) == LARGE and row.get("dtype") == "bfloat16"
    }
    for name in ("ldr_kl", *OF_ONE_PROBABILITY):
        add(f"{name}, bfloat16: share of the memory roof, 0.7", in_b.get(name), lambda x: x >= 0.7)
    tiles = of_tiles(record.rows("c", JAX))
    aim = "InfoNCE in tiles, 65536 x 512, bfloat16: "
    add(aim + "gradients differ, 1e-3", tiles.get("gradients_differ"), lambda x: x <= 1e-3)
    add(aim + "extra bytes, 2e9", tiles.get("extra_bytes"), lambda x: x < 2e9)
    add(aim + "times dense, 1.2", tiles.get("times_dense"), lambda x: x <= 1.2)
    table = first(record.rows("d", JAX), table="whole").get("seconds")
    if table is None:
        table = next(
            (
                row["seconds_of_4095_runs"]
                for row in record.rows("d", JAX)
                if "seconds_of_4095_runs" in row
            ),
            None,
        )
    add("letter table: seconds of 4,095 runs, 120", table, lambda x: x < 120)
    at = {"network": "resnet18", "batch": 512, "dtype": "bfloat16"}
    ours = first(record.rows("e", JAX), **at).get("images_per_second")
    theirs = first(record.rows("e", TORCH), **at, form="compiled").get("images_per_second")
    ratio = ours / theirs if ours and theirs else None
    add("ResNet-18, batch 512, bfloat16: to compiled PyTorch, 1", ratio, lambda x: x >= 1)
    return found


def of_tiles(rows: Iterable[dict]) -> dict[str, Any]:
    """The faster one of the sizes of tiles at the batch that is asked for."""
    wanted = [
        row
        for row in rows
        if (row.get("loss"), row.get("batch"), row.get("dtype")) == ("info_nce", 65536, "bfloat16")
        and row.get("block")
        and "seconds" in row
    ]
    return min(wanted, key=lambda row: row["seconds"], default={})


def first(rows: Iterable[dict], **values: Any) -> dict[str, Any]:
    """The first row with these values; an empty one if there is none."""
    return next((r for r in rows if all(r.get(k) == v for k, v in values.items())), {})


def beside_torch(record: Record) -> list[dict[str, Any]]:
    """JAX's time over PyTorch's for the same work: below 1, JAX is faster."""
    found = []
    for section, ours, keys in (
        ("b", {"loss": "cross_entropy (optax)"}, ("shape", "dtype")),
        ("c", {"loss": "clip"}, ("batch", "dtype")),
        ("e", {}, ("network", "batch", "dtype")),
    ):
        for theirs in record.rows(section, TORCH):
            if "seconds" not in theirs:
                continue
            same = {key: theirs[key] for key in keys}
            rows = [
                row
                for row in record.rows(section, JAX)
                if "seconds" in row and all(row.get(k) == v for k, v in (ours | same).items())
            ]
            # Cross-entropy is measured again beside each group of losses.
            by_block: dict[Any, dict] = {}
            for row in sorted(rows, key=lambda row: -row["seconds"]):
                by_block[row.get("block")] = row
            for row in by_block.values():
                entry = {"section": section} | same | {"form": theirs["form"]}
                entry |= {"block": row["block"]} if "block" in row else {}
                found.append(entry | {"time_ratio": row["seconds"] / theirs["seconds"]})
    rate = next((r for r in record.rows("d", JAX) if r.get("loss") == "cross_entropy"), {})
    for theirs in record.rows("d", TORCH):
        if "run_steps_per_second" in theirs and "run_steps_per_second" in rate:
            ratio = theirs["run_steps_per_second"] / rate["run_steps_per_second"]
            found.append({"section": "d", "form": theirs["way"], "time_ratio": ratio})
    return found


def print_aims(found: Iterable[dict[str, Any]]) -> None:
    """A line for each."""
    words = {None: "not measured", True: "reached", False: "MISSED"}
    for each in found:
        value = "" if each["found"] is None else f"{each['found']:.4g}, "
        print(f"aim: {each['aim']}: {value}{words[each['reached']]}")
