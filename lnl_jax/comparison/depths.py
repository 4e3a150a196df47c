"""What a tower holds at each of its depths: maps as few numbers, noise on them, what is left."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, models
from lnl_jax._extras import require
from lnl_jax.data import preprocess
from lnl_jax.models.efficientnet import InvertedResidual

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PyTree = Any
# Images whose maps are in memory at once.
AT_ONCE = 32
IMAGE, FEATURES = "image", "features"


def block(number: int) -> str:
    """The name of the depth after a block."""
    return f"block {number}"


class Depth(NamedTuple):
    """A place in a tower, and what is kept of the map that is there.

    Attributes:
        name: `IMAGE`, ``block`` with its number, or `FEATURES`.
        side: rows and columns of the map, 1 of features.
        channels: of the map.
        cells: rows and columns of means that are kept.
    """

    name: str
    side: int
    channels: int
    cells: int

    @property
    def width(self) -> int:
        """How many numbers are kept."""
        return self.cells**2 * self.channels

    @property
    def counts(self) -> np.ndarray:
        """How many places of the map a mean is over, for each number."""
        edges = self._edges()
        sizes = np.diff(edges)
        return np.repeat(np.outer(sizes, sizes).ravel(), self.channels)

    def _edges(self) -> np.ndarray:
        return np.linspace(0, self.side, self.cells + 1).round().astype(int)

    def means(self, values: jax.Array) -> jax.Array:
        """Of a map ``[B, side, side, channels]`` its means over cells, ``[B, width]``."""
        edges = self._edges()
        rows = [values[:, a:b].mean(1) for a, b in zip(edges, edges[1:], strict=False)]
        cells = [
            row[:, a:b].mean(1) for row in rows for a, b in zip(edges, edges[1:], strict=False)
        ]
        return jnp.concatenate(cells, -1)


def depths_of(model: models.EfficientNetLite, size: int, columns: int) -> list[Depth]:
    """All depths of a tower.

    Args:
        model: without a last layer.
        size: rows and columns of its images.
        columns: so many numbers are kept of a map, or its channels where these are more.
    """
    image = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    maps = jax.eval_shape(
        lambda variables, image: maps_of(model, variables, image), variables, image
    )
    found = []
    # Shapes of a dict come in the order of its keys.
    for name in (IMAGE, *(block(number) for number in range(len(maps) - 2)), FEATURES):
        one = maps[name]
        side, channels = (1, one.shape[1]) if one.ndim == 2 else one.shape[2:]
        cells = max(1, min(side, int((columns / channels) ** 0.5)))
        found.append(Depth(name, side, channels, cells))
    return found


def maps_of(model: models.EfficientNetLite, variables: PyTree, images: jax.Array) -> dict:
    """By the name of a depth, what is there: the image, what each block gives, the features."""
    features, state = model.apply(
        variables,
        images,
        capture_intermediates=lambda module, _: isinstance(module, InvertedResidual),
        mutable=["intermediates"],
    )
    blocks = state["intermediates"]
    found = {IMAGE: images}
    for number in range(len(blocks)):
        found[block(number)] = blocks[f"blocks_{number}"]["__call__"][0]
    return found | {FEATURES: features}


def depth_tower(
    model: models.EfficientNetLite, variables: PyTree, preprocess: Callable, depths: Sequence[Depth]
) -> data.Tower:
    """A tower whose features are the means of all depths, then mean and mean square of each map."""

    def apply(variables, images):
        maps = maps_of(model, variables, images)
        kept = [depth.means(_as_map(maps[depth.name])) for depth in depths]
        for moment in (lambda one: one, jnp.square):
            kept += [
                moment(maps[depth.name]).reshape(len(images), -1).mean(1, keepdims=True)
                for depth in depths
            ]
        return jnp.concatenate(kept, -1)

    cells = "/".join(str(depth.cells) for depth in depths)
    return data.Tower(f"EfficientNet-Lite, depths, cells {cells}", apply, variables, preprocess)


def _as_map(values: jax.Array) -> jax.Array:
    return values if values.ndim == 4 else values[:, None, None]


class DepthColumns(NamedTuple):
    """What is kept of one depth for all images.

    Attributes:
        depth: which.
        x: means over cells, ``[N, width]``.
        deviation: of all values of the map over the images.
    """

    depth: Depth
    x: np.ndarray
    deviation: float


def split_depths(features: np.ndarray, depths: Sequence[Depth]) -> list[DepthColumns]:
    """The features of `depth_tower` by depth."""
    ends = np.cumsum([depth.width for depth in depths])
    moments = features[:, ends[-1] :].astype(np.float64).mean(0).reshape(2, len(depths))
    deviations = np.sqrt(np.maximum(moments[1] - moments[0] ** 2, 0))
    parts = np.split(features[:, : ends[-1]], ends[:-1], axis=1)
    return [
        DepthColumns(depth, part, float(deviation))
        for depth, part, deviation in zip(depths, parts, deviations, strict=True)
    ]


def noisy_columns(
    columns: DepthColumns, scale: float, rng: np.random.Generator, same: bool
) -> np.ndarray:
    """Means over cells of maps to each value of which Gaussian noise was added.

    A mean over n values has the noise of one over the root of n: it is drawn as such.

    Args:
        columns: of a depth.
        scale: of the noise, in deviations of the map.
        rng: of the noise.
        same: for all images, instead of anew for each.

    Returns:
        ``[N, width]``, float32.
    """
    shape = (1 if same else len(columns.x), columns.x.shape[1])
    noise = rng.standard_normal(shape, np.float32) * np.float32(scale * columns.deviation)
    return columns.x + noise / np.sqrt(np.float32(columns.depth.counts))


def sent_and_received(
    model: models.EfficientNetLite, cut: int, size: int, formats: Mapping[str, Any]
) -> Callable[..., dict[str, np.ndarray]]:
    """A function that sends maps with noise and goes on from them.

    Args:
        model: without a last layer.
        cut: the block whose map is sent.
        size: rows and columns that the tower sees.
        formats: dtypes by name, to which what is sent is rounded.

    Returns:
        ``(variables, images, scale, key) -> features [B, D]`` by name: ``without`` noise, with it
        taken ``off`` each format, and with it ``left`` on. The scale is in deviations of the maps
        of a batch.
    """

    @jax.jit
    def until(variables, images):
        inputs = preprocess.efficientnet_images(images, size=size)
        return model.apply(variables, inputs, cut + 1, method="until")

    @jax.jit
    def onwards(variables, hidden):
        return model.apply(variables, hidden, cut + 1, method="onwards")

    def some(variables, images, scale, key):
        hidden = until(variables, images)
        noise = scale * hidden.std() * jax.random.normal(key, hidden.shape)
        # Not in one program, which might take off what it has just put on.
        sent = hidden + noise
        received = {"without": hidden, "left": sent}
        for name, dtype in formats.items():
            received[f"off, {name}"] = sent.astype(dtype).astype(jnp.float32) - noise
        return {name: np.asarray(onwards(variables, one)) for name, one in received.items()}

    def follow(variables, images, scale, key):
        parts = [images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]
        found = [
            some(variables, part, scale, jax.random.fold_in(key, number))
            for number, part in enumerate(parts)
        ]
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *found)

    return follow


def leakage_figure(rows: Sequence[Mapping[str, Any]], kind: str) -> "Figure":
    """What is read at each depth, a line with a band for each scale of a kind of noise.

    Args:
        rows: with ``depth``, ``noise``, ``scale``, ``fitted to``, and means and deviations of
            ``probe %`` and ``neighbours %``.
        kind: of the noise.

    Returns:
        A figure with a panel for the probe and one for neighbours.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(row["depth"] for row in rows))
    own = [row for row in rows if row["scale"] == 0 or row["noise"] == kind]
    lines = dict.fromkeys((row["scale"], row["fitted to"]) for row in own)
    for panel, reader in zip(panels, ("probe %", "neighbours %"), strict=True):
        for scale, fitted in lines:
            some = [row for row in own if (row["scale"], row["fitted to"]) == (scale, fitted)]
            at = [names.index(row["depth"]) for row in some]
            middle = np.array([row[reader] for row in some])
            width = np.array([row[f"std of {reader}"] for row in some])
            label = f"noise {scale:g}, fitted to {fitted}" if scale else "no noise"
            style = "--" if fitted == "maps without noise" else "-"
            color = f"C{sorted({row['scale'] for row in own}).index(scale)}"
            panel.plot(at, middle, style, color=color, marker="o", ms=3, lw=1, label=label)
            panel.fill_between(at, middle - width, middle + width, color=color, alpha=0.2, lw=0)
        panel.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
        panel.set(title=reader)
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="labels read, %")
    panels[1].legend(frameon=False, fontsize=6)
    figure.suptitle(f"noise {kind}", fontsize=10)
    return figure
