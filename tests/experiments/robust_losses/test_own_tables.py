"""A table of one's own in the studies: nothing claims to know which of its labels are true."""

import numpy as np
import pytest

from tests.experiments import commands

# Words that would claim to know what is true.
CLAIMS = ("clean", "correct", "memori", "mislabel", "false")
TINY = "--folds 2 --epochs 1 --learning_rates 0.1 --batch_size 16".split()
RUNS = {
    "ldr_benchmark": [*TINY, "--losses", "cross_entropy,aldr_kl_step", "--noises", "none,uniform"],
    "ldr_letter": [*TINY, "--noise", "none", "--temperatures", "10", "--qs", "0.7"],
    "loss_leaderboard": [*TINY[2:], "--only", "ldr_kl", "--seeds", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("study", RUNS)
def test_no_table_of_given_labels_claims_to_know_the_truth(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal() + row % 3},{rng.normal()},{'abc'[row % 3]}" for row in range(90)]
    (tmp_path / "labels.csv").write_text("\n".join(["x,y,label", *rows]))
    assert commands.main(["--exp", study, "--dataset", "csv", *RUNS[study]]) == 0
    (folder,) = (tmp_path / "results" / study).glob("*")
    files = [file for file in folder.iterdir() if file.suffix in (".csv", ".md")]
    texts = {file.name: file.read_text() for file in files}
    assert len(texts) > 1
    for name, text in texts.items():
        assert not [claim for claim in CLAIMS if claim in text.lower()], (name, text[:500])
