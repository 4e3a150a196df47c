"""Networks of students and teachers, for small images and by the size of the images."""

from collections.abc import Callable

from lnl_jax import models


def small_convnet(num_classes: int, *, width: int = 32, depth: int = 3) -> models.ConvNet:
    """A small ConvNet.

    Args:
        num_classes: K.
        width: channels.
        depth: blocks, each of which halves the image.

    Returns:
        The module.
    """
    return models.convnet(num_classes, width=width, depth=depth)


def small_vit(
    num_classes: int, *, width: int = 64, depth: int = 3, heads: int = 4, patch_size: int = 4
) -> models.ViT:
    """A small vision transformer.

    Args:
        num_classes: K.
        width: of the tokens.
        depth: blocks.
        heads: of the attention.
        patch_size: rows and columns of a patch.

    Returns:
        The module.
    """
    return models.vit(num_classes, width=width, depth=depth, heads=heads, patch_size=patch_size)


def sized_resnet18(num_classes: int, image_size: int, *, width: int = 64) -> models.ResNet:
    """ResNet-18, with ImageNet's stem for images of more than 64 pixels.

    Args:
        num_classes: K.
        image_size: rows and columns.
        width: channels of the first blocks.

    Returns:
        The module.
    """
    stem = models.pooled_stem if image_size > 64 else models.plain_stem
    return models.resnet18(num_classes, width=width).clone(stem=stem)


def sized_convnet(
    num_classes: int, image_size: int, *, width: int = 128, depth: int = 3
) -> models.ConvNet:
    """A ConvNet, each of whose blocks halves the image.

    Args:
        num_classes: K.
        image_size: any.
        width: channels.
        depth: blocks.

    Returns:
        The module.
    """
    del image_size
    return models.convnet(num_classes, width=width, depth=depth)


def sized_vit(
    num_classes: int, image_size: int, *, width: int = 384, depth: int = 12, heads: int = 6
) -> models.ViT:
    """A vision transformer of 14 x 14 patches, or of 8 x 8 for small images.

    Args:
        num_classes: K.
        image_size: rows and columns.
        width: of the tokens.
        depth: blocks.
        heads: of the attention.

    Returns:
        The module.
    """
    patch = image_size // (14 if image_size > 64 else 8)
    return models.vit(num_classes, width=width, depth=depth, heads=heads, patch_size=patch)


# By name: functions of the number of classes, and of that and the size of the images.
SMALL_NETWORKS: dict[str, Callable] = {
    "convnet": small_convnet,
    "resnet18": models.resnet18,
    "vit": small_vit,
}
SIZED_NETWORKS: dict[str, Callable] = {
    "resnet18": sized_resnet18,
    "convnet": sized_convnet,
    "vit": sized_vit,
}
