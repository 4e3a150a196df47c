"""A classifier from class names: the text embeddings of what CLIP would call each class."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax._files import read_npz
from lnl_jax.evaluation import unit_rows
from lnl_jax.models._checks import check_ids
from lnl_jax.models.clip import CLIP
from lnl_jax.models.clip_tokenizer import Tokenize

AT_ONCE = 256


def zero_shot_weights(
    model: CLIP,
    variables: Mapping[str, Any],
    tokenize: Tokenize,
    class_names: Sequence[str],
    *,
    templates: Sequence[str] = ("a photo of a {}.",),
    cache: str | os.PathLike[str] | None = None,
) -> Array:
    r"""The unit text embedding of each class, averaged over templates.

    .. math::
        w_k = \frac{\bar t_k}{\lVert \bar t_k \rVert}, \qquad
        \bar t_k = \sum_j \frac{t_{jk}}{\lVert t_{jk} \rVert}

    with the embedding :math:`t_{jk}` of the name of class k in template j. The scores of a unit
    image embedding e are ``exp(logit_scale) * e @ w``.

    Args:
        model: with a text tower.
        variables: of the model.
        tokenize: from texts to tokens: `load_tokenizer`.
        class_names: K of them.
        templates: each holds ``{}`` where the name goes.
        cache: an `.npz` file. Where it is not there, it is written; where it is, the weights are
            read from it and the text tower does not run.

    Returns:
        ``[D, K]``, float32, columns of length 1; `lnl_jax.evaluation` has classes as rows.

    Raises:
        ValueError: if there are no names or templates, a template has no ``{}``, a token is outside
            the vocabulary of the tower, a text has no end token, or the cache is of other names,
            templates or weights.

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (ICML 2021), section 3.1.
    """
    _check(class_names, templates)
    # One template after the other, each with all names.
    texts = [template.replace("{}", name) for template in templates for name in class_names]
    ids = np.asarray(tokenize(texts))
    # Here, because the tower runs in a compiled program.
    check_ids(ids, model.text.vocabulary, model.text.end_token)
    params = variables["params"]["text"]
    if cache is None:
        return _embedded(model, params, ids, len(templates))
    path, fingerprint = Path(cache), _fingerprint(model, params, ids, len(templates))
    if path.exists():
        return _read(path, fingerprint)
    weights = _embedded(model, params, ids, len(templates))
    _write(path, np.asarray(weights), fingerprint)
    return weights


def _check(class_names: Sequence[str], templates: Sequence[str]) -> None:
    for name, given in (("class_names", class_names), ("templates", templates)):
        if isinstance(given, str) or len(given) == 0:
            raise ValueError(f"{name} must be a sequence of one string or more, got {given!r}.")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"templates must each hold {{}} for the class name, got {template!r}.")


def _embedded(model: CLIP, params: Mapping[str, Any], ids: np.ndarray, templates: int) -> Array:
    embed = jax.jit(lambda ids: unit_rows(model.text.apply({"params": params}, ids)))
    # Of one shape, so that the tower is compiled once.
    size = min(AT_ONCE, len(ids))
    padded = np.concatenate([ids, ids[: -len(ids) % size]])
    parts = [embed(jnp.asarray(padded[i : i + size])) for i in range(0, len(padded), size)]
    units = jnp.concatenate(parts)[: len(ids)]
    return unit_rows(units.reshape(templates, -1, units.shape[-1]).sum(0)).T


def _fingerprint(model: CLIP, params: Mapping[str, Any], ids: np.ndarray, templates: int) -> str:
    digest = hashlib.sha256(json.dumps([repr(model.text), templates, ids.tolist()]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def _read(path: Path, fingerprint: str) -> Array:
    try:
        stored = read_npz(path)
        found, weights = str(stored["fingerprint"]), stored["weights"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"cache {path} cannot be read ({error}); delete it.") from None
    if found != fingerprint:
        raise ValueError(
            f"cache {path} holds the embeddings of other class names, templates or weights; name "
            "another file, or delete it."
        )
    return jnp.asarray(weights)


def _write(path: Path, weights: np.ndarray, fingerprint: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, weights=weights, fingerprint=np.array(fingerprint))
    part.replace(path)
