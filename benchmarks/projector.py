"""What labels cost a student: its images per second by source, and bytes of adapter and labels.

python benchmarks/projector.py [--batch 50] [--steps 20] [--json FILE]

One step draws crops and CutMix, gets labels (stored ones; those of a live ConvNet teacher; those of
a projector, a vision transformer of 3 blocks whose adapter is merged), and trains a ConvNet on them
by AdamW, all in one program. The three alternate in one run, and the fastest steps count: a machine
shared with others only ever adds time. Then the same step in three programs (views, labels of the
projector, student), as whole loops: with labels that pass through the host; with labels that stay
on the device, each batch a step ahead (`distill.labels.labels_ahead`); and all in one program. The
bytes are formulas: stored float16 logits of 300 epochs against the adapter of CLIP RN50 in float16.
"""

import argparse
import json
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import distill, evaluation, models

CLASSES, SIZE, WIDTH = 10, 16, 64
EPOCHS, HEAD_RANK = 300, 128
CLASS_COUNTS, PER_CLASS = (10, 100, 1000), (1, 10, 50, 100, 200)


def make_parts(batch):
    """The student, its optimiser, label sources by name, and what all loops start from."""
    student = models.convnet(CLASSES, width=32)
    tower = models.ViT(num_classes=CLASSES, width=WIDTH, depth=3, heads=4)
    images = jax.random.uniform(jax.random.key(0), (batch, SIZE, SIZE, 1))
    params = student.init(jax.random.key(1), images)["params"]
    frozen = tower.init(jax.random.key(2), images, method="features")["params"]
    words = evaluation.unit_rows(jax.random.normal(jax.random.key(3), (CLASSES, WIDTH))).T
    adapter = distill.projectors.init_projector(
        jax.random.key(4), frozen, words, {distill.projectors.VIT_TARGETS: 4}, head_rank=4
    )
    merged = distill.projectors.merge_lora(frozen, adapter["encoder"])
    plain = adapter | {"encoder": {}}
    # On an accelerator the tower would run in bfloat16; CPUs are no faster with it.
    narrow = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    tower = tower.clone(dtype=narrow)

    def encode(params, images):
        return tower.apply({"params": params}, images, method="features")

    logits = jnp.zeros((1, batch, CLASSES), jnp.float16)
    sources = {
        "stored labels": distill.labels.stored_labels(logits),
        "live teacher": distill.labels.model_labels(lambda x: student.apply({"params": params}, x)),
        "projector": distill.labels.model_labels(
            lambda x: distill.projectors.project(encode, merged, words, plain, x)
        ),
    }
    tx = optax.adamw(1e-3)
    return student, tx, sources, (params, tx.init(params), images)


def draw(images, number):
    """Views of a step, and how they came about."""
    geometry = distill.labels.draw_geometry(
        0, number, count=len(images), batch_size=len(images), size=(SIZE, SIZE)
    )
    return distill.labels.apply_geometry(images, geometry), geometry


def learn(student, tx, params, state, views, targets):
    """The student's step."""

    def loss(params):
        scores = student.apply({"params": params}, views)
        return distill.labels.distillation_kl(scores, targets, temperature=4.0).mean()

    update, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, update), state


def whole_step(student, tx, source):
    """Views, labels and the student's step as one program."""

    @jax.jit
    def step(params, state, images, number):
        views, _ = draw(images, number)
        # The stored labels are those of one step, again and again.
        targets = source({"images": views, "step": jnp.int32(0)})
        return learn(student, tx, params, state, views, targets)

    return step


def images_per_second(batch, steps):
    """Of each source, by the fastest of its steps; they take turns."""
    student, tx, sources, (params, state, images) = make_parts(batch)
    programs = {name: whole_step(student, tx, source) for name, source in sources.items()}
    fastest = dict.fromkeys(programs, float("inf"))
    for number in range(steps + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(params, state, images, jnp.int32(number)))
            # The first call compiles.
            if number:
                fastest[name] = min(fastest[name], time.perf_counter() - start)
    return {name: batch / seconds for name, seconds in fastest.items()}


def loops_per_second(batch, steps, repeats=3):
    """Images per second of loops with the projector's labels, the fastest of each; in turns."""
    student, tx, sources, (params, state, images) = make_parts(batch)
    step, view = whole_step(student, tx, sources["projector"]), jax.jit(draw)
    label = jax.jit(lambda batch: sources["projector"]({"images": batch["views"][0]}))
    train = jax.jit(lambda *arguments: learn(student, tx, *arguments))

    def drawn():
        return ({"views": view(images, jnp.int32(number))} for number in range(steps))

    def in_programs(labelled):
        run = params, state
        for each in labelled:
            run = train(*run, each["views"][0], each["targets"])
        return run

    def in_one():
        run = params, state
        for number in range(steps):
            run = step(*run, images, jnp.int32(number))
        return run

    loops = {
        "through the host": lambda: in_programs(
            each | {"targets": np.asarray(label(each))} for each in drawn()
        ),
        "a batch ahead": lambda: in_programs(distill.labels.labels_ahead(label, drawn())),
        "one program": in_one,
    }
    fastest = dict.fromkeys(loops, float("inf"))
    for repeat in range(repeats + 1):
        for name, loop in loops.items():
            start = time.perf_counter()
            jax.block_until_ready(loop())
            # The first one compiles.
            if repeat:
                fastest[name] = min(fastest[name], time.perf_counter() - start)
    return {name: batch * steps / seconds for name, seconds in fastest.items()}


def adapter_parameters(class_counts):
    """Of CLIP RN50 by number of classes: rank 8 on its bottlenecks, at most 128 in the head."""
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    tower = jax.eval_shape(models.clip_rn50().image.init, jax.random.key(0), images)["params"]
    found = {}
    for classes in class_counts:
        head_rank = HEAD_RANK if classes > HEAD_RANK else None
        shapes = distill.projectors.projector_shapes(
            tower,
            {distill.projectors.RN50_TARGETS: 8},
            dim=1024,
            num_classes=classes,
            head_rank=head_rank,
        )
        found[classes] = distill.projectors.count_parameters(shapes)
    return found


def sizes():
    """Bytes for labels, both in float16, over images per class and classes."""
    lines = []
    for classes, parameters in adapter_parameters(CLASS_COUNTS).items():
        for per_class in PER_CLASS:
            labels = distill.ledger.label_bytes(per_class * classes, EPOCHS, classes)
            line = {"classes": classes, "per class": per_class, "adapter bytes": 2 * parameters}
            lines.append(
                line | {"label bytes": labels, "adapter / labels": 2 * parameters / labels}
            )
    return lines


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    speeds = images_per_second(arguments.batch, arguments.steps)
    ratios = {name: speed / speeds["stored labels"] for name, speed in speeds.items()}
    for name, speed in speeds.items():
        print(f"{name:>14}: {speed:8.0f} images/s, {ratios[name]:.2f} of stored labels")
    loops = loops_per_second(arguments.batch, arguments.steps)
    for name, speed in loops.items():
        print(f"projector, {name}: {speed:8.0f} images/s")
    table = sizes()
    for row in table:
        print(
            ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    if arguments.json:
        device = jax.devices()[0].device_kind
        found = {"device": device, "cores": len(os.sched_getaffinity(0)), "jax": jax.__version__}
        found |= {"batch": arguments.batch, "images per second": speeds}
        found |= {"of stored labels": ratios, "projector's loop": loops}
        arguments.json.write_text(json.dumps(found | {"bytes": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
