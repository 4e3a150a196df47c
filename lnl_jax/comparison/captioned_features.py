"""Features of images beside features of texts that name their classes and groups of classes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lnl_jax import data, models
from lnl_jax.runner.arguments import StudyError

# The 20 superclasses of CIFAR-100, five classes each.
CIFAR100_GROUPS = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles with wheels": "bicycle bus motorcycle pickup_truck train",
    "other vehicles": "lawn_mower rocket streetcar tank tractor",
}
GROUP_TEXT = "a photo of {group}"


class Captions(NamedTuple):
    """Texts as features, and what they describe.

    Attributes:
        text: a row for each text, float32, ``[M, E]``.
        own: rows of the texts that each training image may have, ``[N, C]``.
        classes: rows of those that name each class, ``[K, P]``.
        groups: the row that names each group of classes, ``[G]``; empty without groups.
        group_of: the group of each class, ``[K]``; zeros without groups.
    """

    text: np.ndarray
    own: np.ndarray
    classes: np.ndarray
    groups: np.ndarray
    group_of: np.ndarray


def cifar100_with_groups(data_dir: str | None) -> data.Splits:
    """CIFAR-100, whose extras name the groups of classes."""
    splits = data.cifar100(data_dir)
    groups = [members.split() for members in CIFAR100_GROUPS.values()]
    numbers = [
        next(place for place, group in enumerate(groups) if name in group)
        for name in splits.class_names
    ]
    named = {"class_groups": np.array(numbers), "group_names": np.array([*CIFAR100_GROUPS])}
    return splits._replace(extras=dict(splits.extras) | named)


def captions(
    splits: data.Splits, templates: Sequence[str], sentences: str | None = None
) -> Captions:
    """The texts of a data set, from its names or from features that came along.

    Features are the array ``class_text``, ``[K, E]`` or ``[K, P, E]``, in the extras, with
    ``group_text``, ``[G, E]``, where there are groups, or a column ``text`` of the training part,
    ``[N, E]``, the mean of which over a class stands for it where there is no ``class_text``. Else
    names are put into templates, and an encoder of sentences, or counting words, makes features.

    Args:
        splits: names in ``class_names``; in the extras ``class_groups``, ``[K]``, and
            ``group_names``, ``[G]``.
        templates: texts with ``{name}`` for the class, ``{group}`` for its group, or both; one with
            a group is left out where there are none.
        sentences: a folder with an encoder of sentences; None counts words.

    Returns:
        The `Captions`.

    Raises:
        StudyError: for a template without a place, names that are missing, or arrays that do not
            fit.
    """
    group_of, names = _groups(splits)
    if "class_text" in splits.extras or "text" in splits.train:
        return _given(splits, group_of, len(names))
    if len(splits.class_names) != splits.num_classes:
        raise StudyError(
            "the data set names no classes: put class_names [K], class_text [K, E] or text_train "
            "[N, E] into the file."
        )
    kept = [one for one in templates if names or "{group}" not in one]
    naming = [one for one in kept if "{name}" in one]
    if not naming or any("{name}" not in one and "{group}" not in one for one in templates):
        raise StudyError(
            "templates must each have {name} or {group}, and one that is used {name}; got "
            f"{', '.join(map(repr, templates)) or 'none'}."
        )
    # Those that name the class come first.
    kept = naming + [one for one in kept if one not in naming]
    classes = [str(name).replace("_", " ") for name in splits.class_names]
    of_class = [names[number] for number in group_of] if names else [""] * len(classes)
    texts = [
        template.format(name=name, group=group)
        for template in kept
        for name, group in zip(classes, of_class, strict=True)
    ]
    texts += [GROUP_TEXT.format(group=name) for name in names]
    rows = np.arange(len(kept) * len(classes), dtype=np.int32).reshape(len(kept), -1).T
    return Captions(
        _features(texts, sentences),
        rows[splits.train["label"]],
        rows[:, : len(naming)],
        np.arange(rows.size, len(texts), dtype=np.int32),
        group_of,
    )


def draw_pairs(
    labels: np.ndarray, texts: Captions, imbalance: float | None, seed: int
) -> dict[str, np.ndarray]:
    """A training part of images with a caption each, its classes of unlike sizes.

    Args:
        labels: of the training rows, ``[N]``.
        texts: of these rows.
        imbalance: size of the last class over that of the first, in a random order of the classes,
            each cut to the smallest one before; None keeps all rows.
        seed: of the order, the rows and the captions.

    Returns:
        ``row`` of the features, ``caption``, a row of the texts, ``label`` and ``index``, ``[n]``.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(labels), dtype=np.int32)
    if imbalance is not None:
        num_classes = len(texts.classes)
        order, least = rng.permutation(num_classes), np.bincount(labels).min()
        alike = [rng.permutation(np.flatnonzero(labels == k))[:least] for k in range(num_classes)]
        alike = np.concatenate(alike).astype(np.int32)
        part = {"row": alike, "label": order[labels[alike]]}
        rows = data.long_tailed(part, imbalance, rng, num_classes=num_classes)["row"]
    chosen = rng.integers(0, texts.own.shape[1], len(rows))
    return {
        "row": rows,
        "caption": texts.own[rows, chosen],
        "label": np.int32(labels[rows]),
        "index": np.arange(len(rows), dtype=np.int32),
    }


def _groups(splits: data.Splits) -> tuple[np.ndarray, list[str]]:
    """The group of each class, and the names of the groups; none of them where there are none."""
    given = splits.extras.get("class_groups")
    if given is None:
        return np.zeros(splits.num_classes, np.int32), []
    given = np.asarray(given)
    count = int(given.max(initial=0)) + 1
    names = [str(name) for name in splits.extras.get("group_names", map(str, range(count)))]
    is_integer = np.issubdtype(given.dtype, np.integer)
    if given.shape != (splits.num_classes,) or not is_integer or given.min() < 0:
        raise StudyError(
            f"class_groups must be a number from 0 on for each of {splits.num_classes} classes, "
            f"got {given.dtype} of shape {given.shape}."
        )
    if len(names) < count:
        raise StudyError(f"group_names must name {count} groups, got {len(names)}.")
    return given.astype(np.int32), names


def _given(splits: data.Splits, group_of: np.ndarray, num_groups: int) -> Captions:
    """Features of texts that came with the data set."""
    labels, num_classes = splits.train["label"], splits.num_classes
    own = splits.train.get("text")
    of_class = splits.extras.get("class_text")
    if of_class is None:
        of_class = _class_means(_table("text_train", own), labels, num_classes)
    of_class = np.asarray(of_class)
    of_class = of_class[:, None] if of_class.ndim == 2 else of_class
    if of_class.ndim != 3 or len(of_class) != num_classes:
        raise StudyError(
            f"class_text must have the shape [{num_classes}, E] or [{num_classes}, P, E], got "
            f"{of_class.shape}."
        )
    parts = {"class_text": of_class.reshape(-1, of_class.shape[2])}
    parts |= {} if own is None else {"text_train": own}
    if num_groups and "group_text" in splits.extras:
        parts["group_text"] = splits.extras["group_text"]
    tables = {name: _table(name, values) for name, values in parts.items()}
    widths = {name: table.shape[1] for name, table in tables.items()}
    if len(set(widths.values())) > 1:
        raise StudyError(f"features of texts must be of one width, got {widths}.")
    starts = dict(zip(tables, np.cumsum([0, *map(len, tables.values())])[:-1], strict=True))
    rows = np.arange(len(tables["class_text"]), dtype=np.int32).reshape(num_classes, -1)
    groups = np.arange(len(tables.get("group_text", ())), dtype=np.int32)
    if len(groups) not in (0, num_groups):
        raise StudyError(f"group_text must have {num_groups} rows, got {len(groups)}.")
    found = rows[labels]
    if own is not None:
        found = np.arange(len(labels), dtype=np.int32)[:, None] + np.int32(starts["text_train"])
    groups = groups + np.int32(starts.get("group_text", 0))
    return Captions(np.concatenate([*tables.values()]), found, rows, groups, group_of)


def _class_means(text: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise StudyError(
            f"class {counts.argmin()} has no training text; put class_text into the file."
        )
    sums = np.zeros((num_classes, text.shape[1]), np.float64)
    np.add.at(sums, labels, text)
    return np.float32(sums / counts[:, None])


def _table(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise StudyError(
            f"{name} must be a table of numbers, got {values.dtype} of shape {values.shape}."
        )
    values = np.float32(values)
    if not np.isfinite(values).all():
        raise StudyError(f"{name} must be finite; {(~np.isfinite(values)).sum()} values are not.")
    return values


def _features(texts: Sequence[str], sentences: str | None) -> np.ndarray:
    """Each text by an encoder of sentences, or the counts of its words."""
    if sentences is not None:
        encoder = models.load_sentence_encoder(sentences)
        return models.embed_sentences(*encoder, models.load_sentence_tokenizer(sentences), texts)
    words: Mapping[str, int] = {
        word: place for place, word in enumerate(sorted({w for t in texts for w in t.split()}))
    }
    counts = np.zeros((len(texts), len(words)), np.float32)
    for row, text in zip(counts, texts, strict=True):
        np.add.at(row, [words[word] for word in text.split()], 1)
    return counts
