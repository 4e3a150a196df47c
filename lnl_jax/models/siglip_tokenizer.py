"""Texts as the tokens that SigLIP's and SigLIP 2's text towers take."""

import os
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import MOST_BYTES, check_plain
from lnl_jax._host_arguments import check_integer
from lnl_jax.models._vocabularies import refused
from lnl_jax.models.clip_tokenizer import Tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
FILE = (
    "it takes tokenizer.json as it lies beside the weights, such as in the Hugging Face repository "
    "google/siglip-base-patch16-224. Nothing is downloaded."
)


def load_siglip_tokenizer(path: str | os.PathLike[str], *, context_length: int = 64) -> Tokenize:
    """The vocabulary of a folder, in the way of SigLIP or of SigLIP 2.

    SigLIP's texts become lower case with single spaces and lose their punctuation; the token that
    ends them also fills the rest. Those of SigLIP 2, whose vocabulary has ``<eos>``, become lower
    case, end with it, and are filled with ``<pad>``. A text that is cut off ends all the same. No
    token stands before the text.

    Args:
        path: a folder with ``tokenizer.json``.
        context_length: T, that of the text tower.

    Returns:
        A function from B texts to int32 tokens, ``[B, T]``.

    Raises:
        FileNotFoundError: if the folder has no vocabulary.
        ValueError: if the vocabulary cannot be read, or is another model's, or the context is too
            short; the function raises it for a single string.

    Example:
        >>> load_siglip_tokenizer("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: no tokenizer.json in no/such/folder: it takes tokenizer.json as it ...

    References:
        Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer
        and detokenizer for Neural Text Processing" (EMNLP 2018); Zhai et al., "Sigmoid Loss for
        Language Image Pre-Training" (ICCV 2023), official code.
    """
    check_integer("context_length", context_length, at_least=2)
    tokenizer = _read(Path(path))
    clean, end, fill = _manner(tokenizer, path)

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts must be a sequence of strings, got {texts!r}.")
        ids = np.full((len(texts), context_length), fill, np.int32)
        with refused(Path(path), what="a vocabulary for these texts", repair=FILE):
            # Its own first and last tokens are left out: which these are depends on the file.
            encoded = tokenizer.encode_batch(
                [clean(text) for text in texts], add_special_tokens=False
            )
            for row, one in zip(ids, encoded, strict=True):
                pieces = one.ids[: context_length - 1]
                row[: len(pieces) + 1] = [*pieces, end]
        return ids

    return tokenize


def _manner(
    tokenizer: "Tokenizer", path: str | os.PathLike[str]
) -> tuple[Callable[[str], str], int, int]:
    """How texts are cleaned, and the tokens that end and fill them."""
    # Gemma's vocabulary has </s> too, for the text of web pages.
    end, fill = (tokenizer.token_to_id(token) for token in ("<eos>", "<pad>"))
    if end is not None and fill is not None:
        return str.lower, end, fill
    end = tokenizer.token_to_id("</s>")
    if end is None or tokenizer.token_to_id("<|endoftext|>") is not None:
        raise ValueError(
            f"the vocabulary in {path} has no </s> or <eos>: it is not SigLIP's; {FILE}"
        )
    return _plain_words, end, end


def _plain_words(text: str) -> str:
    return " ".join(text.lower().translate(NO_PUNCTUATION).split())


def _read(folder: Path) -> "Tokenizer":
    require("tokenizers")
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(f"no tokenizer.json in {folder}: {FILE}")
    check_plain(file, MOST_BYTES)
    with refused(file, what="a vocabulary", repair=FILE):
        tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
