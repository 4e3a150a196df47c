"""Texts as the tokens that CLIP's text tower takes, with the vocabulary of a folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import MOST_BYTES, check_plain
from lnl_jax.models._vocabularies import refused

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
# Contractions, words, single digits, and runs of anything else but space.
PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
FILES = (
    "it takes tokenizer.json, or vocab.json and merges.txt, as they lie beside the weights in the "
    "Hugging Face repository openai/clip-vit-base-patch32. Nothing is downloaded."
)

# How many tokens CLIP's own vocabulary has, and what it makes of a text.
REAL, TEXT, TOKENS = 49408, "a photo of a cat", [320, 1125, 539, 320, 2368]

Tokenize = Callable[[Sequence[str]], np.ndarray]


def load_tokenizer(path: str | os.PathLike[str], *, context_length: int = 77) -> Tokenize:
    """Byte-pair encoding with the vocabulary of a folder, in CLIP's way.

    Texts become lower case with single spaces, are put between a start and an end token, and are
    cut to the context length, the end token staying last; zeros fill the rest, which a causal tower
    that pools at the end does not see. Unlike OpenAI's code, HTML escapes and broken Unicode are
    taken as they stand, apart from composition (NFC), as the transformers library does.

    Args:
        path: a folder with ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.
        context_length: T, that of the text tower; 2 at least, for the start and the end.

    Returns:
        A function from B texts to int32 tokens, ``[B, T]``.

    Raises:
        FileNotFoundError: if the folder has no vocabulary.
        ValueError: if the vocabulary cannot be read, has no start and end token, or is as large as
            CLIP's own and makes other tokens of a text; or if the context is too short; the
            function raises it for a single string.

    References:
        Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (ACL 2016),
        section 3.2; Radford et al., "Learning Transferable Visual Models From Natural Language
        Supervision" (ICML 2021), section 2.4.
    """
    if context_length < 2:
        raise ValueError(f"context_length must be at least 2, got {context_length}.")
    tokenizer = _read(Path(path))
    start, end = (_id(tokenizer, token, path) for token in (START, END))
    _check_real(tokenizer, path)

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts must be a sequence of strings, got {texts!r}.")
        ids = np.zeros((len(texts), context_length), np.int32)
        with refused(Path(path), what="a vocabulary for these texts", repair=FILES):
            # The tokens between start and end; a post-processor of the file would add them again.
            encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
            for row, one in zip(ids, encoded, strict=True):
                words = one.ids[: context_length - 2]
                row[: len(words) + 2] = [start, *words, end]
        return ids

    return tokenize


def _read(folder: Path) -> "Tokenizer":
    require("tokenizers")
    from tokenizers import Tokenizer

    whole, vocabulary, merges = (
        folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt")
    )
    if not whole.is_file() and not (vocabulary.is_file() and merges.is_file()):
        raise FileNotFoundError(f"no vocabulary in {folder}: {FILES}")
    read = (whole,) if whole.is_file() else (vocabulary, merges)
    for file in read:
        check_plain(file, MOST_BYTES)
    with refused(read[0], what="a vocabulary of byte pairs", repair=FILES):
        if not whole.is_file():
            return _built(vocabulary, merges)
        tokenizer = Tokenizer.from_file(str(whole))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def _built(vocabulary: Path, merges: Path) -> "Tokenizer":
    """What a `tokenizer.json` of CLIP says, for its two older files."""
    require("tokenizers")
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    pairs = models.BPE.from_file(
        str(vocabulary), str(merges), unk_token=END, end_of_word_suffix="</w>"
    )
    tokenizer = Tokenizer(pairs)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.add_special_tokens(
        [token for token in (START, END) if tokenizer.token_to_id(token) is not None]
    )
    return tokenizer


def _id(tokenizer: "Tokenizer", token: str, path: str | os.PathLike[str]) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the vocabulary in {path} has no {token}: it is not CLIP's; {FILES}")
    return found


def _check_real(tokenizer: "Tokenizer", path: str | os.PathLike[str]) -> None:
    """Whether a vocabulary as large as CLIP's own does with a text what that does."""
    if tokenizer.get_vocab_size() != REAL:
        return
    with refused(Path(path), what="a vocabulary of byte pairs", repair=FILES):
        found = tokenizer.encode(TEXT, add_special_tokens=False).ids
    if found != TOKENS:
        raise ValueError(
            f"the vocabulary in {path} is as large as CLIP's but makes {found} of {TEXT!r} instead "
            f"of {TOKENS}: its files are of different models; {FILES}"
        )
