"""The architecture of a CLIP checkpoint: from its shapes, and from its configuration the rest."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lnl_jax.models._shapes import (
    Shapes,
    agree,
    count_of,
    heads_of,
    image_side,
    number_of,
    of_texts,
    one_of,
    part_of,
    root_of,
    section_of,
    shape_of,
    side,
)
from lnl_jax.models._transformer import Activation, gelu, quick_gelu
from lnl_jax.models.clip import CLIP, TextTower, VisionTower
from lnl_jax.models.clip_resnet import ModifiedResNet

ACTIVATIONS: dict[str, Activation] = {"gelu": gelu, "quick_gelu": quick_gelu}
# What the transformers library takes where a configuration leaves it out.
TEXT_DEFAULTS = {"hidden_act": "quick_gelu", "num_attention_heads": 8}
VISION_DEFAULTS = {"hidden_act": "quick_gelu", "num_attention_heads": 12}
# The end of a text in OpenAI's vocabulary.
USUAL_END = 49407

# The settings of open_clip that this CLIP has, and those that are as here with these values.
VISION_SETTINGS = ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size")
TEXT_SETTINGS = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "eos_id")
WITHOUT_EFFECT = ("patch_dropout", "hf_tokenizer_name", "tokenizer_kwargs")
AS_HERE = {
    "pool_type": ("tok", "argmax", "eos"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
}


class Sizes(NamedTuple):
    """What the shapes of a checkpoint tell."""

    embed_dim: int
    image: dict[str, Any]
    text: dict[str, Any]


def hugging_face_model(shapes: Shapes, config: Mapping | None) -> CLIP:
    """The model of a `CLIPModel` of the transformers library."""
    if config is None:
        raise ValueError(
            "config.json must lie beside these weights: it alone tells the number of heads, the "
            "activation and the token that ends a text."
        )
    kind = config.get("model_type", "clip")
    if kind != "clip":
        raise ValueError(f"config.json is that of the architecture {kind!r}, not of 'clip'.")
    vision = part_of(config, "vision_config", VISION_DEFAULTS)
    text = part_of(config, "text_config", TEXT_DEFAULTS)
    sizes = _hugging_face_sizes(shapes)
    for section, found in ((vision, sizes.image), (text, sizes.text)):
        declared = {
            "width": section.get("hidden_size"),
            "depth": section.get("num_hidden_layers"),
            "hidden": section.get("intermediate_size"),
            "patch_size": section.get("patch_size"),
            "vocabulary": section.get("vocab_size"),
            "context_length": section.get("max_position_embeddings"),
        }
        agree(declared, found)
    image = sizes.image | {"image_size": image_side(vision.get("image_size"), sizes.image)}
    return CLIP(
        VisionTower(
            sizes.embed_dim,
            **image,
            heads=heads_of(vision, "num_attention_heads", image["width"]),
            activation=one_of(vision, "hidden_act", ACTIVATIONS, "CLIP"),
            epsilon=number_of(vision, "layer_norm_eps", 1e-5),
        ),
        TextTower(
            sizes.embed_dim,
            **sizes.text,
            heads=heads_of(text, "num_attention_heads", sizes.text["width"]),
            end_token=_end_of_hugging_face(text.get("eos_token_id"), sizes.text["vocabulary"]),
            activation=one_of(text, "hidden_act", ACTIVATIONS, "CLIP"),
            epsilon=number_of(text, "layer_norm_eps", 1e-5),
        ),
    )


def _end_of_hugging_face(end: Any, vocabulary: int) -> int | None:
    """The token that ends a text; None where it is the greatest id in the text."""
    if end is None:
        if vocabulary <= USUAL_END:
            raise ValueError(
                "config.json has no eos_token_id in its text_config, and a vocabulary of "
                f"{vocabulary} tokens has not the usual {USUAL_END}: add the end of a text."
            )
        return USUAL_END
    if isinstance(end, list) and len(end) == 1:
        end = end[0]
    # Configurations from before this setting meant something hold 2; those texts end at the
    # greatest id.
    return None if end == 2 else _end_token("eos_token_id", end, vocabulary)


def _end_token(name: str, end: Any, vocabulary: int) -> int:
    if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end < vocabulary:
        raise ValueError(
            f"the configuration must have {name}, the token that ends a text, from 0 to "
            f"{vocabulary - 1} in this vocabulary; got {end!r}."
        )
    return end


def _hugging_face_sizes(shapes: Shapes) -> Sizes:
    return Sizes(
        shape_of(shapes, "visual_projection.weight", 2)[0],
        {
            **_patches(
                shape_of(shapes, "vision_model.embeddings.patch_embedding.weight", 4),
                shape_of(shapes, "vision_model.embeddings.position_embedding.weight", 2),
            ),
            "depth": count_of(shapes, r"vision_model\.encoder\.layers\.(\d+)\."),
            "hidden": shape_of(shapes, "vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        },
        {
            **of_texts(
                shape_of(shapes, "text_model.embeddings.token_embedding.weight", 2),
                shape_of(shapes, "text_model.embeddings.position_embedding.weight", 2),
            ),
            "depth": count_of(shapes, r"text_model\.encoder\.layers\.(\d+)\."),
            "hidden": shape_of(shapes, "text_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        },
    )


def open_clip_model(
    shapes: Shapes, config: Mapping | None, activation: Activation | None = None
) -> CLIP:
    """The model of a checkpoint of open_clip or of OpenAI."""
    settings = {} if config is None else section_of(config, "model_cfg") or config
    vision, text = (
        section_of(settings, f"{name}_cfg") or section_of(settings, name)
        for name in ("vision", "text")
    )
    if config is not None and not (vision and text):
        raise ValueError(
            "the configuration beside these weights is not open_clip's: it has no vision_cfg and "
            "text_cfg. These weights go with open_clip_config.json."
        )
    _refuse_others("vision_cfg", vision, VISION_SETTINGS)
    _refuse_others("text_cfg", text, TEXT_SETTINGS)
    if activation is None:
        if config is None:
            raise ValueError(
                "no open_clip_config.json lies beside these weights, and shapes do not tell the "
                "activation: give activation=quick_gelu for OpenAI's weights, activation=gelu for "
                "most others."
            )
        activation = quick_gelu if settings.get("quick_gelu", False) else gelu
    embed_dim, sizes = shape_of(shapes, "text_projection", 2)[1], _open_clip_texts(shapes)
    agree({"embed_dim": settings.get("embed_dim")}, {"embed_dim": embed_dim})
    agree(
        {
            "vocabulary": text.get("vocab_size"),
            "context_length": text.get("context_length"),
            "width": text.get("width"),
            "depth": text.get("layers"),
        },
        sizes,
    )
    heads = heads_of(text, "heads", sizes["width"], sizes["width"] // 64)
    end = None
    if text.get("pool_type") == "eos":
        end = _end_token("eos_id", text.get("eos_id"), sizes["vocabulary"])
    tower = TextTower(embed_dim, **sizes, heads=heads, end_token=end, activation=activation)
    if "visual.layer1.0.conv1.weight" in shapes:
        return CLIP(_resnet(shapes, embed_dim, vision, settings), tower)
    found = _open_clip_images(shapes)
    agree(_declared(vision), found)
    found["image_size"] = image_side(vision.get("image_size"), found)
    heads = _heads_of_images(found["width"], vision)
    return CLIP(VisionTower(embed_dim, **found, heads=heads, activation=activation), tower)


def _declared(vision: Mapping) -> dict[str, Any]:
    names = {"width": "width", "depth": "layers", "patch_size": "patch_size"}
    return {ours: vision.get(theirs) for ours, theirs in names.items()}


def _open_clip_texts(shapes: Shapes) -> dict[str, int]:
    return {
        **of_texts(
            shape_of(shapes, "token_embedding.weight", 2),
            shape_of(shapes, "positional_embedding", 2),
        ),
        "depth": count_of(shapes, r"transformer\.resblocks\.(\d+)\."),
        "hidden": shape_of(shapes, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
    }


def _open_clip_images(shapes: Shapes) -> dict[str, int]:
    return {
        **_patches(
            shape_of(shapes, "visual.conv1.weight", 4),
            shape_of(shapes, "visual.positional_embedding", 2),
        ),
        "depth": count_of(shapes, r"visual\.transformer\.resblocks\.(\d+)\."),
        "hidden": shape_of(shapes, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
    }


def _heads_of_images(width: int, vision: Mapping) -> int:
    head = number_of(vision, "head_width", 64)
    if width % head or not width:
        raise ValueError(f"heads must divide the width {width} into parts of {head}.")
    return width // head


def _resnet(shapes: Shapes, embed_dim: int, vision: Mapping, settings: Mapping) -> ModifiedResNet:
    width = shape_of(shapes, "visual.conv3.weight", 4)[0]
    pixels = shape_of(shapes, "visual.attnpool.positional_embedding", 2)[0] - 1
    found = {
        "image_size": 32 * root_of(pixels),
        "blocks": tuple(count_of(shapes, rf"visual\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)),
        "width": width,
    }
    layers = vision.get("layers")
    declared = {
        "image_size": side(vision.get("image_size")),
        "blocks": tuple(layers) if isinstance(layers, list) else layers,
        "width": vision.get("width"),
    }
    agree(declared, found)
    if settings.get("attnpool_heads") is not None:
        heads = heads_of(settings, "attnpool_heads", 32 * width)
    else:
        heads = _heads_of_images(32 * width, vision)
    return ModifiedResNet(embed_dim, **found, heads=heads)


def _refuse_others(name: str, settings: Mapping, known: Iterable[str]) -> None:
    others = {
        key: value
        for key, value in settings.items()
        if key not in (*known, *WITHOUT_EFFECT) and value and value not in AS_HERE.get(key, ())
    }
    if others:
        raise ValueError(f"{name} asks for what this CLIP does not have: {others}.")


def _patches(kernel: tuple[int, ...], positions: tuple[int, ...]) -> dict[str, int]:
    width, _, size, _ = kernel
    return {"width": width, "patch_size": size, "image_size": size * root_of(positions[0] - 1)}
