"""A vocabulary of the words of a text, where none of a pretrained model is at hand."""

import collections
import re
from collections.abc import Sequence

import numpy as np

from lnl_jax.models.clip_tokenizer import Tokenize

PADDING, UNKNOWN, FIRST = 0, 1, 2
WORD = re.compile(r"\w+|[^\w\s]")


def word_tokenizer(
    texts: Sequence[str], *, context_length: int, max_words: int
) -> tuple[Tokenize, int]:
    """Whole words, in lower case, the most frequent ones.

    The last id ends each text and is the greatest, so that `models.TextTower` finds it; padding is
    0, and 1 is every word that is not in the vocabulary.

    Args:
        texts: whose words are counted.
        context_length: T; longer texts are cut, the end stays.
        max_words: of the vocabulary.

    Returns:
        A function from B texts to int32 ids, ``[B, T]``, and how many ids there are.
    """
    counts = collections.Counter(word for text in texts for word in _words(text))
    # By frequency, then by spelling: the same texts in another order give the same ids.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[:max_words]
    ids = {word: FIRST + rank for rank, word in enumerate(ranked)}
    end = FIRST + len(ids)

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        found = np.full((len(texts), context_length), PADDING, np.int32)
        for row, text in zip(found, texts, strict=True):
            known = [ids.get(word, UNKNOWN) for word in _words(text)][: context_length - 1]
            row[: len(known) + 1] = [*known, end]
        return found

    return tokenize, end + 1


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())
