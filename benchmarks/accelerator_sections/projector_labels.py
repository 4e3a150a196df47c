"""(g) Soft labels of a projector: towers in bfloat16, and who waits for whom."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from accelerator_sections.bench import Bench
from accelerator_sections.measuring import compiled, compiled_together, in_turn, interleaved
from lnl_jax import distill, evaluation, models

HELD_AGAINST = "the product roof of its dtype in (a), for the tower; the loops against each other"


def sizes(tiny: bool) -> dict[str, int]:
    """A vision transformer of the size of ViT-B/32 and a ResNet-18 as student; or toys."""
    if tiny:
        return dict(image=16, width=16, depth=1, heads=2, patch=8, batch=4, classes=5, steps=2)
    return dict(
        image=224, width=768, depth=12, heads=12, patch=32, batch=256, classes=1000, steps=8
    )


def run(bench: Bench) -> None:
    """The tower alone in both dtypes, then whole loops with the labels of a merged adapter."""
    size = sizes(bench.tiny)
    shape = (size["batch"], size["image"], size["image"], 3)
    images = jax.random.uniform(jax.random.key(0), shape)
    tower = models.ViT(
        num_classes=size["classes"],
        width=size["width"],
        depth=size["depth"],
        heads=size["heads"],
        patch_size=size["patch"],
    )
    init = functools.partial(tower.init, method="features")
    frozen = jax.jit(init)(jax.random.key(1, impl="rbg"), images[:1])["params"]
    words = jax.random.normal(jax.random.key(2), (size["classes"], size["width"]))
    adapter = distill.projectors.init_projector(
        jax.random.key(3),
        frozen,
        evaluation.unit_rows(words).T,
        {distill.projectors.VIT_TARGETS: 4},
        head_rank=4,
    )
    merged = distill.projectors.merge_lora(frozen, adapter["encoder"])
    plain = adapter | {"encoder": {}}

    def labels(dtype: str) -> Callable:
        """``(merged, images) -> scores`` of the projector."""
        narrow = tower.clone(dtype=jnp.dtype(dtype))

        def encode(params, images):
            return narrow.apply({"params": params}, images, method="features")

        return lambda params, images: distill.projectors.project(
            encode, params, evaluation.unit_rows(words).T, plain, images
        )

    towers(bench, labels, merged, images)
    if bench.has_time(1 if bench.tiny else 8, "loops"):
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
        loops(bench, labels(dtype), merged, images, size, dtype)


def towers(bench: Bench, labels: Callable, merged: Any, images: jax.Array) -> None:
    """Labels per second of the tower alone."""
    programs = compiled_together(
        {
            dtype: functools.partial(compiled, labels(dtype), (merged, images))
            for dtype in ("bfloat16", "float32")
        }
    )
    calls = {
        dtype: in_turn(found.call, [(merged, images)])
        for dtype, found in programs.items()
        if not isinstance(found, str)
    }
    times = interleaved(calls, 0.1 if bench.tiny else 1)
    for dtype, found in programs.items():
        row = {"tower": dtype, "batch": len(images)}
        time = found if isinstance(found, str) else times[dtype]
        if isinstance(time, str):
            bench.row(**row, why=time)
            continue
        row |= time.row() | {"images_per_second": len(images) / time.median}
        row |= {"compile_seconds": found.compile_seconds, "extra_bytes": found.extra_bytes}
        share = bench.roofs().product_share(found.flops, time.median, dtype)
        bench.row(**row, flops=found.flops, product_share=share)


def loops(
    bench: Bench, labels: Callable, merged: Any, images: jax.Array, size: Any, dtype: str
) -> None:
    """Images per second of loops whose labels come through the host, ahead, or in the step."""
    learn, start = student_of(size, dtype, images)
    geometry = {"count": len(images), "batch_size": len(images), "size": images.shape[1:3]}

    def view(images, number):
        drawn = distill.labels.draw_geometry(0, number, **geometry)
        return distill.labels.apply_geometry(images, drawn)

    def whole(state, merged, images, number):
        views = view(images, number)
        return learn(state, views, labels(merged, views))

    state = start()
    scores = jax.ShapeDtypeStruct((size["batch"], size["classes"]), jnp.float32)
    number = jnp.int32(0)
    programs = compiled_together(
        {
            "view": lambda: compiled(view, (images, number)),
            "labels": lambda: compiled(labels, (merged, images)),
            "learn": lambda: compiled(learn, (state, images, scores), donate_argnums=0),
            "whole": lambda: compiled(whole, (state, merged, images, number), donate_argnums=0),
        }
    )
    whys = {name: found for name, found in programs.items() if isinstance(found, str)}
    if whys:
        bench.row(loop="all", why=whys)
        return
    draw, label, train, step = (
        programs[name].call for name in ("view", "labels", "learn", "whole")
    )
    numbers = [jnp.int32(each) for each in range(size["steps"])]

    def drawn() -> Iterator[dict]:
        return ({"images": draw(images, number)} for number in numbers)

    # Each loop has a state of its own, which goes on.
    states = {}

    def in_programs(name: str, labelled: Any) -> Any:
        for each in labelled:
            states[name] = train(states[name], each["images"], each["targets"])
        return states[name]

    def through_the_host() -> Any:
        # NumPy's copy waits for the labels and frees them from the device.
        labelled = (each | {"targets": np.array(label(merged, each["images"]))} for each in drawn())
        return in_programs("through the host", labelled)

    def ahead() -> Any:
        source = distill.labels.labels_ahead(lambda each: label(merged, each["images"]), drawn())
        return in_programs("a batch ahead", source)

    def in_one() -> Any:
        for number in numbers:
            states["one program"] = step(states["one program"], merged, images, number)
        return states["one program"]

    ways = {"through the host": through_the_host, "a batch ahead": ahead, "one program": in_one}
    states.update({name: jax.tree.map(jnp.copy, state) for name in ways})
    for name, time in interleaved(ways, 0.1 if bench.tiny else 3).items():
        row = {"loop": name, "dtype": dtype, "batch": size["batch"], "steps": size["steps"]}
        if isinstance(time, str):
            bench.row(**row, why=time)
        else:
            speed = size["batch"] * size["steps"] / time.median
            bench.row(**row, **time.row(), images_per_second=speed)


def student_of(size: Any, dtype: str, images: jax.Array) -> tuple[Callable, Callable]:
    """``(state, views, targets) -> state`` of a student that follows labels, and its start."""
    if size["image"] < 64:
        student = models.convnet(size["classes"], width=4, depth=1)
    else:
        student = models.resnet18(size["classes"]).clone(
            stem=models.pooled_stem, dtype=jnp.dtype(dtype)
        )
    tx = optax.adamw(1e-3)

    def start() -> Any:
        variables = jax.jit(student.init)(jax.random.key(4, impl="rbg"), images[:1])
        return variables["params"], variables.get("batch_stats", {}), tx.init(variables["params"])

    def learn(state: Any, views: jax.Array, targets: jax.Array) -> Any:
        params, stats, opt_state = state

        def loss(params: Any) -> tuple[jax.Array, Any]:
            scores, updated = student.apply(
                {"params": params, "batch_stats": stats}, views, train=True, mutable=["batch_stats"]
            )
            values = distill.labels.distillation_kl(scores, targets, temperature=4.0)
            return values.mean(), updated.get("batch_stats", stats)

        gradient, new = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), new, opt_state

    return learn, start
