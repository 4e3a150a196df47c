"""The ledger reproduces the published sizes from its formulas."""

import pytest

from lnl_jax import distill


def test_the_sizes_that_hello_compares_with():
    assert round(distill.ledger.label_bytes(1000, 300, 1000) / 2**20, 1) == 572.2
    assert round(distill.ledger.label_bytes(200_000, 300, 1000) / 2**30, 1) == 111.8


@pytest.mark.parametrize(
    ("per_class", "printed"), [(10, 5.67), (20, 11.33), (50, 28.33), (100, 56.66), (200, 113.33)]
)
def test_the_sizes_that_lpld_prints(per_class, printed):
    images = 1000 * per_class
    size = distill.ledger.label_bytes(images, 300, 1000) + distill.ledger.geometry_bytes(
        images, 300
    )
    # Its files have headers besides.
    assert 0.997 * printed < size / 2**30 <= printed


def test_three_thousandths_of_a_percent_is_a_byte_per_parameter():
    ratios = distill.ledger.claimed_ratios(847_360, distill.ledger.label_bytes(50_000, 300, 1000))
    mixed, half, full = (100 * value for value in ratios.values())
    assert round(mixed, 3) == 0.003
    assert half == pytest.approx(2 * mixed)
    assert full == pytest.approx(4 * mixed)
    # Real float32 bytes reach it at 200 images per class.
    many = distill.ledger.claimed_ratios(847_360, distill.ledger.label_bytes(200_000, 300, 1000))
    assert round(100 * many["float32 bytes / label bytes"], 3) == 0.003
    assert round(100 * many["float16 bytes / label bytes"], 3) == 0.001


def test_smaller_labels():
    full = distill.ledger.label_bytes(100, 10, 1000)
    assert distill.ledger.label_bytes(100, 10, 1000, keep=40) == full / 40
    # FKD's 20 bytes for 5 of 1000 classes: a hundredth.
    assert distill.ledger.top_label_bytes(100, 10, 1000, 5) == full / 100
    assert distill.ledger.top_label_bytes(1, 1, 100, 5) == 15
    assert distill.ledger.quantized_label_bytes(100, 10, 1000) == 100 * 10 * 1004


def test_the_total_leaves_out_what_is_public():
    entries = [
        distill.ledger.Entry("images", "uint8", 100),
        distill.ledger.Entry("adapter", "float16", 20),
        distill.ledger.Entry("public tower", "float32", 10**6, counted=False),
    ]
    table = distill.ledger.ledger_table(entries, against=400)
    assert distill.ledger.total_bytes(entries) == table[-1]["bytes"] == 120
    assert [row["% of full labels"] for row in table] == [25, 5, 250_000, 30]
    assert table[2]["counted"] == "no"
    assert table[2]["size"] == "976.6 KiB"


def test_scores_stay_between_nothing_and_everything():
    worst = distill.ledger.label_robust_score(
        real_hard=1, synthetic_hard=0, synthetic_any=0, random_any=1
    )
    best = distill.ledger.label_robust_score(
        real_hard=0, synthetic_hard=1, synthetic_any=1, random_any=0
    )
    assert (worst, best) == pytest.approx((0, 1))
    none = distill.ledger.augmentation_robust_score(
        synthetic_augmented=0.5, random_augmented=0.5, synthetic_plain=0.2, random_plain=0.2
    )
    # (1 - 1/e) / (e - 1/e) = 1 / (1 + e)
    assert none == pytest.approx(1 / (1 + 2.718281828))
    with pytest.raises(ValueError, match="fractions from 0 to 1"):
        distill.ledger.label_robust_score(
            real_hard=56.5, synthetic_hard=1, synthetic_any=1, random_any=1
        )
