"""Tokens of a made-up vocabulary against byte pairs in plain Python, and classifiers from names."""

import functools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models
from lnl_jax.models import clip_tokenizer, load_tokenizer, zero_shot_weights

START, END = clip_tokenizer.START, clip_tokenizer.END
LETTERS = "abcdeghostu!.'"
MERGES = "c a|ca t</w>|h o|d o|t h|th e</w>|do g</w>|ho t</w>|a t</w>|h at</w>|u t|' s</w>|. .</w>"
MERGES = [tuple(pair.split()) for pair in MERGES.split("|")]
TOKENS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *map("".join, MERGES), START, END]
IDS = {token: place for place, token in enumerate(TOKENS)}


@pytest.fixture
def vocabulary(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(IDS))
    lines = ["#version: 0.2", *map(" ".join, MERGES)]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def defined(text, length):
    """Pieces, then the earliest pair of the list again and again."""
    ids = []
    for piece in re.findall(
        r"'s|'t|'re|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", " ".join(text.lower().split())
    ):
        word = [*piece[:-1], piece[-1] + "</w>"]
        while pairs := [pair for pair in zip(word, word[1:], strict=False) if pair in MERGES]:
            best = min(pairs, key=MERGES.index)
            joined, i = [], 0
            while i < len(word):
                whole = tuple(word[i : i + 2]) == best
                joined.append("".join(best) if whole else word[i])
                i += 1 + whole
            word = joined
        ids += [IDS[token] for token in word]
    ids = [IDS[START], *ids[: length - 2], IDS[END]]
    return ids + [0] * (length - len(ids))


TEXTS = [
    "the cat",
    "  The\tHAT..\n",
    "a dog's tooth!",
    "cat, ".replace(",", "") * 9,
    "",
    "'tat hot.hot gothe!!",
]


@pytest.mark.parametrize("length", [6, 32])
def test_tokens_are_those_of_the_definition(vocabulary, length):
    tokenize = load_tokenizer(vocabulary, context_length=length)
    ids = tokenize(TEXTS)
    assert (ids.dtype, ids.shape) == (np.int32, (len(TEXTS), length))
    np.testing.assert_array_equal(ids, [defined(text, length) for text in TEXTS])
    np.testing.assert_array_equal(ids[0][:4], [IDS[t] for t in (START, "the</w>", "cat</w>", END)])


def test_tokens_of_random_letters_are_those_of_the_definition(vocabulary, rng):
    texts = ["".join(rng.choice(list(LETTERS + " "), 30)) for _ in range(200)]
    ids = load_tokenizer(vocabulary, context_length=40)(texts)
    np.testing.assert_array_equal(ids, [defined(text, 40) for text in texts])


def test_one_file_gives_the_same_whatever_it_says_of_padding(vocabulary, tmp_path):
    from tokenizers import processors

    built = clip_tokenizer._built(vocabulary / "vocab.json", vocabulary / "merges.txt")
    built.enable_padding(length=3, pad_id=7)
    built.enable_truncation(2)
    built.post_processor = processors.RobertaProcessing((END, IDS[END]), (START, IDS[START]))
    expected = load_tokenizer(vocabulary, context_length=9)(TEXTS)
    whole = tmp_path / "whole"
    whole.mkdir()
    built.save(str(whole / "tokenizer.json"))
    np.testing.assert_array_equal(load_tokenizer(whole, context_length=9)(TEXTS), expected)


def test_what_is_no_vocabulary_is_refused(vocabulary, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json, or vocab\.json and merges"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="context_length must be at least 2, got 1"):
        load_tokenizer(vocabulary, context_length=1)
    tokenize = load_tokenizer(vocabulary)
    for texts in ("the cat", [b"the cat"]):
        with pytest.raises(ValueError, match="texts must be a sequence of strings"):
            tokenize(texts)
    (vocabulary / "vocab.json").write_text(json.dumps({"c": 0, "a": 1, "ca": 2}))
    (vocabulary / "merges.txt").write_text("#version: 0.2\nc a\n")
    with pytest.raises(ValueError, match=r"has no <\|startoftext\|>: it is not CLIP's"):
        load_tokenizer(vocabulary)
    (vocabulary / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a vocabulary"):
        load_tokenizer(vocabulary)


CLIP = Path(__file__).parents[1] / "golden" / "clip_tiny" / "hf_clip_gelu"
NAMES = ["cat", "dog", "hat"]


@functools.cache
def loaded():
    """The tiny towers, whose texts end as those of the made-up vocabulary do."""
    model, variables = models.load_clip(CLIP)
    return models.LoadedCLIP(model.clone(text=model.text.clone(end_token=IDS[END])), variables)


@pytest.fixture
def classifier(vocabulary):
    """Everything but the names, with a tokenizer whose tokens the tiny tower has."""
    return functools.partial(
        zero_shot_weights, *loaded(), load_tokenizer(vocabulary, context_length=16)
    )


def test_weights_are_the_mean_of_the_unit_embeddings(classifier, vocabulary, monkeypatch):
    # Six texts, four at a time: the last ones are padded.
    monkeypatch.setattr("lnl_jax.models.clip_zero_shot.AT_ONCE", 4)
    templates = ("a {}.", "the hot {}!")
    weights = classifier(NAMES, templates=templates)
    tokenize = load_tokenizer(vocabulary, context_length=16)
    model, variables = loaded()
    for column, name in zip(weights.T, NAMES, strict=True):
        texts = [template.replace("{}", name) for template in templates]
        ids = jnp.asarray(np.concatenate([tokenize(texts)] * 2))
        rows = jax.jit(model.text.apply)({"params": variables["params"]["text"]}, ids)[:2]
        mean = sum(row / np.linalg.norm(row) for row in np.asarray(rows))
        np.testing.assert_allclose(column, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)


def test_a_cache_is_read_for_the_same_and_refused_for_anything_else(classifier, tmp_path):
    cache = tmp_path / "weights.npz"
    weights = classifier(NAMES, templates=("a {}.",), cache=cache)
    assert [path.name for path in tmp_path.glob("weights*")] == ["weights.npz"]
    written = cache.read_bytes()

    def unused(*arguments):
        raise AssertionError("the text tower ran")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lnl_jax.models.clip_zero_shot._embedded", unused)
        again = classifier(NAMES, templates=("a {}.",), cache=cache)
    np.testing.assert_array_equal(again, weights)
    for names, templates in ((NAMES[::-1], ("a {}.",)), (NAMES, ("the {}.",))):
        with pytest.raises(ValueError, match="other class names, templates or weights"):
            classifier(names, templates=templates, cache=cache)
    model, variables = loaded()
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    with pytest.raises(ValueError, match="other class names, templates or weights"):
        zero_shot_weights(
            model, other, classifier.args[2], NAMES, templates=("a {}.",), cache=cache
        )
    assert cache.read_bytes() == written
    cache.write_bytes(written[: len(written) // 2])
    with pytest.raises(ValueError, match=r"cannot be read .*; delete it"):
        classifier(NAMES, templates=("a {}.",), cache=cache)


def test_what_makes_no_classifier_is_refused(classifier):
    with pytest.raises(ValueError, match="class_names must be a sequence of one string or more"):
        classifier("cat")
    with pytest.raises(ValueError, match="class_names must be a sequence of one string or more"):
        classifier([])
    with pytest.raises(ValueError, match=r"templates must each hold \{\}"):
        classifier(NAMES, templates=("a photo",))
    small = loaded().model.clone(text=loaded().model.text.clone(vocabulary=5))
    with pytest.raises(ValueError, match="token .* of text 0 is beyond the 5 of the text tower"):
        zero_shot_weights(
            small, loaded().variables, classifier.args[2], NAMES, templates=("a {}.",)
        )


def test_a_text_without_its_end_is_an_error_and_not_all_texts_alike(classifier):
    model, variables = loaded()
    params = {"params": variables["params"]["text"]}
    ids = np.array([[0, 5, 6, IDS[END], 0, 0], [0, 5, 6, 7, 8, 9]], np.int32)
    with pytest.raises(ValueError, match=rf"1 of 2 texts have no end token, {IDS[END]}, .* text 1"):
        model.text.apply(params, ids)
    with pytest.raises(ValueError, match="token 99 of text 1 is beyond the 99"):
        model.text.apply(params, ids + 90 * (ids == 9))
    # Traced, it can only be shown.
    found = np.asarray(jax.jit(model.text.apply)(params, ids))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    other = model.clone(text=model.text.clone(end_token=98))
    with pytest.raises(ValueError, match="3 of 3 texts have no end token, 98"):
        zero_shot_weights(other, variables, classifier.args[2], NAMES)
    for end in (99, -1):
        with pytest.raises(ValueError, match=f"end_token must be from 0 to 98, .* got {end}"):
            jax.eval_shape(model.text.clone(end_token=end).apply, params, ids)


@pytest.mark.parametrize("moved", [0, 1])
def test_a_vocabulary_as_large_as_clips_has_to_do_what_clips_does(tmp_path, moved):
    """Made up but for the tokens of one text, of which one may stand elsewhere."""
    words = {"a": 320, "photo": 1125, "of": 539, "cat": 2368 + moved}
    pieces, merges = [], []
    for word in words:
        letters = [*word[:-1], f"{word[-1]}</w>"]
        while len(letters) > 1:
            pieces += letters[:2]
            merges.append(" ".join(letters[:2]))
            letters = ["".join(letters[:2]), *letters[2:]]
    taken = {f"{word}</w>": place for word, place in words.items()} | {START: 49406, END: 49407}
    free = iter(sorted(set(range(clip_tokenizer.REAL)) - set(taken.values())))
    taken |= {piece: next(free) for piece in dict.fromkeys(pieces)}
    taken |= {f"filling {place}": place for place in free}
    (tmp_path / "vocab.json").write_text(json.dumps(taken))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    if moved:
        with pytest.raises(ValueError, match=r"as large as CLIP's but makes .*2369\] of 'a photo"):
            load_tokenizer(tmp_path)
    else:
        ids = load_tokenizer(tmp_path, context_length=8)(["A photo of a cat"])
        assert ids.tolist() == [[49406, 320, 1125, 539, 320, 2368, 49407, 0]]
