"""Networks, as flax linen modules. They know no loss and no training.

All are called alike: ``model.init(key, images)`` makes ``params`` and, for those with batch norm,
``batch_stats``; ``model.apply(variables, images, train=False)`` gives scores ``[B, K]`` in float32;
``model.apply(variables, images, train=True, mask=mask, mutable=["batch_stats"])`` gives scores
normalised by the batch, and the new statistics, which examples outside `mask` do not enter.
"""

import lnl_jax._flax  # noqa: F401
from lnl_jax.models._in_dtype import in_dtype
from lnl_jax.models._transformer import gelu, quick_gelu, tanh_gelu
from lnl_jax.models._words import word_tokenizer
from lnl_jax.models.clip import CLIP, TextTower, VisionTower, clip_rn50, clip_vit_b32
from lnl_jax.models.clip_resnet import ModifiedResNet
from lnl_jax.models.clip_tokenizer import load_tokenizer
from lnl_jax.models.clip_weights import LoadedCLIP, load_clip
from lnl_jax.models.clip_zero_shot import zero_shot_weights
from lnl_jax.models.convnet import ConvNet, convnet
from lnl_jax.models.efficientnet import EfficientNetLite, Stage
from lnl_jax.models.efficientnet_weights import LoadedEfficientNet, load_efficientnet
from lnl_jax.models.mlp import MLP, LaneMLP
from lnl_jax.models.nested_dropout import NestedDropout, best_prefix, prefix_probabilities
from lnl_jax.models.projection_head import ProjectedEncoder, ProjectionHead, TwoTower
from lnl_jax.models.resnet import (
    ResNet,
    plain_stem,
    pooled_stem,
    projected,
    resnet8,
    resnet18,
    resnet20,
    resnet34,
    zero_padded,
)
from lnl_jax.models.sentence_weights import (
    LoadedSentenceEncoder,
    embed_sentences,
    load_sentence_encoder,
    load_sentence_tokenizer,
)
from lnl_jax.models.sentences import SentenceEncoder
from lnl_jax.models.siglip import SigLIP, SigLIPTextTower
from lnl_jax.models.siglip_images import NaFlexTower, SigLIPVisionTower
from lnl_jax.models.siglip_tokenizer import load_siglip_tokenizer
from lnl_jax.models.siglip_weights import LoadedSigLIP, load_siglip
from lnl_jax.models.vit import ViT, vit
from lnl_jax.models.wide_resnet import WideResNet, wide_resnet28

__all__ = [
    "CLIP",
    "MLP",
    "ConvNet",
    "EfficientNetLite",
    "LaneMLP",
    "LoadedCLIP",
    "LoadedEfficientNet",
    "LoadedSentenceEncoder",
    "LoadedSigLIP",
    "ModifiedResNet",
    "NaFlexTower",
    "NestedDropout",
    "ProjectedEncoder",
    "ProjectionHead",
    "ResNet",
    "SentenceEncoder",
    "SigLIP",
    "SigLIPTextTower",
    "SigLIPVisionTower",
    "Stage",
    "TextTower",
    "TwoTower",
    "ViT",
    "VisionTower",
    "WideResNet",
    "best_prefix",
    "clip_rn50",
    "clip_vit_b32",
    "convnet",
    "embed_sentences",
    "gelu",
    "in_dtype",
    "load_clip",
    "load_efficientnet",
    "load_sentence_encoder",
    "load_sentence_tokenizer",
    "load_siglip",
    "load_siglip_tokenizer",
    "load_tokenizer",
    "plain_stem",
    "pooled_stem",
    "prefix_probabilities",
    "projected",
    "quick_gelu",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet8",
    "tanh_gelu",
    "vit",
    "wide_resnet28",
    "word_tokenizer",
    "zero_padded",
    "zero_shot_weights",
]
