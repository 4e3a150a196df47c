"""Tokens of made-up vocabularies in the manner of SigLIP and of SigLIP 2."""

import pytest
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram

from lnl_jax.models import load_siglip_tokenizer

PIECES = ["<pad>", "</s>", "<unk>", "▁a", "▁cat", "s", "▁dog", "▁"]


def siglip(path):
    tokenizer = Tokenizer(Unigram([(piece, -1.0) for piece in PIECES], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(9)
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def siglip2(path):
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "a", "c", "t", ".", "</s>", "ca", "cat"]
    vocabulary = {token: index for index, token in enumerate(letters)}
    tokenizer = Tokenizer(BPE(vocabulary, [("c", "a"), ("ca", "t")], unk_token="<unk>"))
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def test_siglip_drops_capitals_and_punctuation_and_fills_with_the_end(tmp_path):
    tokenize = load_siglip_tokenizer(siglip(tmp_path), context_length=5)
    ids = tokenize(["A  cat's.", "a dog!", "", "a a a a a a"])
    assert ids.tolist() == [[3, 4, 5, 1, 1], [3, 6, 1, 1, 1], [1] * 5, [3, 3, 3, 3, 1]]


def test_siglip2_ends_with_its_own_token_without_one_before_the_text(tmp_path):
    tokenize = load_siglip_tokenizer(siglip2(tmp_path), context_length=4)
    assert tokenize(["Cat.", "", "aaaa"]).tolist() == [[10, 7, 1, 0], [1, 0, 0, 0], [4, 4, 4, 1]]


def test_vocabularies_that_are_not_there_or_not_siglips_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json in"):
        load_siglip_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(ValueError, match="is not a vocabulary"):
        load_siglip_tokenizer(tmp_path)
    Tokenizer(BPE({"a": 0}, [])).save(str(file))
    with pytest.raises(ValueError, match="has no </s> or <eos>"):
        load_siglip_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="context_length must be an integer from 2 on"):
        load_siglip_tokenizer(siglip(tmp_path), context_length=1)
    with pytest.raises(ValueError, match="texts must be a sequence of strings, got 'a'"):
        load_siglip_tokenizer(tmp_path)("a")
