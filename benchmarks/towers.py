"""What the depthwise convolutions of EfficientNet-Lite0 cost, in either form, and `data.embed`.

python benchmarks/towers.py [--images 64] [--size 112] [--embedded 512] [--batch_sizes 8 16 32 64]
    [--stages 7]

CPU seconds of the whole network, forwards at `--size` and backwards at 64 pixels, with grouped
convolutions, with shifted products, and with shifted products that autodiff differentiates; then of
`data.embed` for several batch sizes, for 12,000 images of 32x32 pixels. The weights are random: the
time does not depend on them.
"""

import argparse
import time
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, models
from lnl_jax.data import preprocess
from lnl_jax.models import _depthwise as layers
from lnl_jax.models import efficientnet

SMALL, MANY, CALLS = 64, 12_000, 2
FORMS = {
    "shifted": layers.depthwise,
    "shifted, autodiff": lambda images, kernel, stride: layers.shifted(
        images, kernel, stride=stride
    ),
    "grouped": lambda images, kernel, stride: layers.grouped(images, kernel, stride=stride),
}


def main() -> None:
    """Prints a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--embedded", type=int, default=512)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--stages", type=int, default=7)
    options = parser.parse_args()
    model = models.EfficientNetLite(stages=efficientnet.LITE0[: options.stages])
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    shape = (options.images, options.size, options.size, 3)
    images = jax.random.normal(jax.random.key(1), shape)
    some = images[:16, :SMALL, :SMALL]
    for name, form in FORMS.items():
        with mock.patch.object(efficientnet, "depthwise", form):
            if name != "shifted, autodiff":
                seconds = cpu_seconds(jax.jit(model.apply), variables, images)
                each = 1e3 * seconds / len(images)
                print(f"forwards, {name}: {seconds:.3f} CPU s, {each:.1f} ms an image")
            slopes = jax.jit(jax.grad(partial(total, model)))
            seconds = cpu_seconds(slopes, variables["params"], variables["batch_stats"], some)
            print(f"gradient at 64 pixels, {name}: {1e3 * seconds / len(some):.1f} CPU ms an image")
    tower = data.Tower(
        "lite0", model.clone(num_classes=None).apply, variables, preprocess.efficientnet_images
    )
    pixels = np.random.default_rng(0).integers(0, 256, (options.embedded, 32, 32, 3), np.uint8)
    for batch_size in options.batch_sizes:
        run = partial(data.embed, tower, size=options.size, batch_size=batch_size)
        # Either call compiles; the difference is what images cost.
        few, many = (used(run, pixels[:count]) for count in (batch_size, len(pixels)))
        seconds = (many - few) * MANY / (len(pixels) - batch_size)
        print(f"embed, {MANY} images, batches of {batch_size}: {seconds:.0f} CPU s")


def total(model: models.EfficientNetLite, params: dict, batch_stats: dict, images: jax.Array):
    """A number to differentiate."""
    return model.apply({"params": params, "batch_stats": batch_stats}, images).sum()


def cpu_seconds(function, *arguments) -> float:
    """Of one call, compiled before."""
    jax.block_until_ready(function(*arguments))
    return used(lambda: [jax.block_until_ready(function(*arguments)) for _ in range(CALLS)]) / CALLS


def used(function, *arguments) -> float:
    """CPU seconds of the process while it runs."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


if __name__ == "__main__":
    main()
