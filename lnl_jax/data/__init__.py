"""Data sets as dicts of arrays, one function each, and batches of them.

What is done to images in training is in `lnl_jax.data.augment`.
"""

from lnl_jax.data.batches import batches, epoch_plan, epoch_plans, take
from lnl_jax.data.candidates import CandidateVotes, candidate_csv, generated_candidates
from lnl_jax.data.crowds import Crowd, crowd_csv, crowd_npz, generated_crowd
from lnl_jax.data.csv_files import csv_table
from lnl_jax.data.dataset import Splits
from lnl_jax.data.digits import digits
from lnl_jax.data.features import Tower, embed
from lnl_jax.data.human_labels import human_labels, image_order, tfds_order
from lnl_jax.data.image_folder import (
    CroppedImages,
    ImageFolder,
    MiddleImages,
    image_folder,
    train_and_val,
)
from lnl_jax.data.image_sets import cifar10, cifar100, fashion_mnist, mnist
from lnl_jax.data.image_text import DecodedImages, ImageText, image_text
from lnl_jax.data.imagenet_names import imagenet_class_names
from lnl_jax.data.labelled import Labelled, hold_out_test, labelled_folder
from lnl_jax.data.labels import check_labels
from lnl_jax.data.many_classes import aloi, kuzushiji49, tiny_imagenet
from lnl_jax.data.newsgroups import news20
from lnl_jax.data.npz import load_npz
from lnl_jax.data.prepared_sets import prepared_set
from lnl_jax.data.readable import readable
from lnl_jax.data.shapes32 import shapes32
from lnl_jax.data.splits import (
    class_halves,
    fold_numbers,
    hold_out,
    k_fold,
    long_tailed,
    long_tailed_parts,
    subset,
)
from lnl_jax.data.streaming import fits_on_device, stream
from lnl_jax.data.tables import letter, pendigits, satimage, vowel
from lnl_jax.data.uci_tables import glass, optdigits, segment, shuttle, vehicle

__all__ = [
    "tiny_imagenet",
    "news20",
    "kuzushiji49",
    "aloi",
    "vehicle",
    "shuttle",
    "segment",
    "optdigits",
    "glass",
    "CandidateVotes",
    "CroppedImages",
    "Crowd",
    "DecodedImages",
    "ImageFolder",
    "ImageText",
    "Labelled",
    "MiddleImages",
    "Splits",
    "Tower",
    "batches",
    "candidate_csv",
    "check_labels",
    "cifar10",
    "cifar100",
    "class_halves",
    "crowd_csv",
    "crowd_npz",
    "csv_table",
    "digits",
    "embed",
    "epoch_plan",
    "epoch_plans",
    "fashion_mnist",
    "fits_on_device",
    "fold_numbers",
    "generated_candidates",
    "generated_crowd",
    "hold_out",
    "hold_out_test",
    "human_labels",
    "image_folder",
    "image_order",
    "image_text",
    "imagenet_class_names",
    "k_fold",
    "labelled_folder",
    "letter",
    "load_npz",
    "long_tailed",
    "long_tailed_parts",
    "mnist",
    "pendigits",
    "prepared_set",
    "readable",
    "satimage",
    "shapes32",
    "stream",
    "subset",
    "take",
    "tfds_order",
    "train_and_val",
    "vowel",
]
