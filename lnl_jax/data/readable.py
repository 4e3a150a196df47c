"""Whether images can be decoded, found out before they are needed."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from lnl_jax._host_arguments import check_integer
from lnl_jax.data.decoding import Place, decode
from lnl_jax.data.image_folder import ImageFolder
from lnl_jax.data.image_text import ImageText

Images = TypeVar("Images", ImageFolder, ImageText)
# Half a minute to a minute of one core.
CHECKED_AT_MOST = 20_000


def readable(
    images: Images,
    *,
    skip_unreadable: bool = False,
    num_threads: int = 4,
    check_at_most: int = CHECKED_AT_MOST,
) -> tuple[Images, tuple[str, ...]]:
    """Decodes every image once, so that a broken one does not stop a training after hours.

    A photograph of 500x400 pixels takes 1 to 3 ms of a core.

    Args:
        images: of `image_folder` or of `image_text`.
        skip_unreadable: leaves out what cannot be decoded, however many images there are to look
            at, instead of an error.
        num_threads: that decode; 0 as 1.
        check_at_most: more images than this are not looked at, unless `skip_unreadable`: one that
            cannot be decoded is then named when it is drawn.

    Returns:
        The images that can be decoded, and a line for each that cannot: its name, and why.

    Raises:
        ValueError: if one cannot be decoded, unless `skip_unreadable`; names the first, and says
            how many there are. If none is left, or none of a class; names it.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from lnl_jax.data import image_folder
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
        ...     path = pathlib.Path(folder.name, name)
        ...     path.parent.mkdir(exist_ok=True)
        ...     Image.new("RGB", (8, 8)).save(path)
        >>> _ = pathlib.Path(folder.name, "cat/1.png").write_bytes(b"not an image")
        >>> images, skipped = readable(image_folder(folder.name), skip_unreadable=True)
        >>> len(images.files), len(skipped)
        (2, 1)
        >>> folder.cleanup()
    """
    check_integer("num_threads", num_threads, at_least=0)
    places = images.places
    if len(places) > check_at_most and not skip_unreadable:
        return images, ()
    broken = _broken(places, num_threads)
    if not broken:
        return images, ()
    lines = tuple(broken.values())
    if not skip_unreadable:
        raise ValueError(
            f"{lines[0]} Of {len(places)} images {len(lines)} cannot be decoded; leave them out: "
            "skip_unreadable."
        )
    kept = images.take(np.setdiff1d(np.arange(len(places)), list(broken)))
    if not kept.places:
        raise ValueError(f"none of {len(places)} images can be decoded; the first: {lines[0]}")
    if isinstance(kept, ImageFolder):
        counts = np.bincount(kept.label, minlength=len(kept.classes))
        if not counts.all():
            name = kept.classes[int(counts.argmin())]
            raise ValueError(f"no image of the class {name} can be decoded; leave it out.")
    return kept, lines


def _broken(places: Sequence[Place], num_threads: int) -> dict[int, str]:
    """What is wrong, by position."""

    def look(place: Place) -> str | None:
        try:
            decode(place.content(), place.name, lambda image: image.resize((1, 1), 0))
        except (ValueError, OSError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(num_threads, 1)) as pool:
        found = enumerate(pool.map(look, places))
        return {position: wrong for position, wrong in found if wrong is not None}
