import html.parser
import json
import math
import pathlib
import shlex

import numpy as np
import pytest
from matplotlib.figure import Figure

from lnl_jax import runner
from lnl_jax.runner import curves as report_curves
from lnl_jax.runner import frame, page, results, saved_runs, side_by_side
from lnl_jax.runner import report as results_report
from lnl_jax.runner.outputs import Artifact

NASTY = '<script>alert("x & y")</script>'
VOID = {"meta", "img", "br"}
URLS = {"href", "src", "xlink:href", "action", "data", "poster", "srcset"}


class Parsed(html.parser.HTMLParser):
    """What a page consists of; fails where an element is not closed in its turn."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.urls, self.images, self.links = [], [], [], [], []
        self.tables, self.headings, self.text, self.titles = [], [], "", {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert len(found) == len(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.urls += [value for name, value in attributes if name in URLS]
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("h1", "h2", "h3", "h4", "dd"):
            self.headings.append((tag, ""))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        if self.headings and self.headings[-1][0] in self.open:
            tag, text = self.headings[-1]
            self.headings[-1] = tag, text + data
        if "script" not in self.open and "style" not in self.open:
            self.text += data


def config(overrides, **more):
    arguments = {"seed": 0, "rate": 0.1} | overrides
    return {
        "experiment": "toy",
        "arguments": arguments,
        "overrides": overrides,
        "argv": ["--exp"],
    } | more


def write_run(path, overrides, rows, artifacts=(), **more):
    with results.open_results(path, config(overrides, **more), force=False) as run:
        run.start(resumable=False)
        for output in (*rows, *artifacts):
            run.write(output)
        run.finish()


def rows_of(*accuracies, method="ldr_kl"):
    return [
        {"epoch": epoch, "method": method, "accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies, 1)
    ]


def made(tmp_path, *folders):
    out = tmp_path / "page.html"
    assert runner.write_report([*map(str, folders), "--out", str(out)]) == 0
    return Parsed(out.read_text())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("results") / "toy"
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    table = [{"loss": NASTY, "accuracy": 0.5, "std": 0.03125}, {"loss": "b", "on": True}]
    artifacts = [Artifact("board", table), Artifact("plot", figure)]
    artifacts.append(Artifact("runs.csv", b"a,b\n1,x\n2.5,NaN\n"))
    write_run(root / "seed=0", {"seed": 0}, rows_of(0.2, 0.4), artifacts, generated_data=True)
    write_run(root / "seed=1", {"seed": 1}, rows_of(0.4, 0.6), generated_data=False)
    return root


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    return made(tmp_path_factory.mktemp("page"), folders)


def test_a_page_asks_for_nothing_outside_itself(whole):
    assert whole.urls
    for url in whole.urls:
        assert url.startswith(("#", "data:image/"))
    assert {url[1:] for url in whole.urls if url.startswith("#")} <= set(whole.ids)
    assert len(set(whole.ids)) == len(whole.ids)
    source = page.page("t", "")
    assert "default-src 'none'" in source
    assert "http" not in source.replace("http-equiv", "")
    assert "@import" not in source


def test_a_run_says_what_it_was(whole, folders):
    headings = [text for tag, text in whole.headings if tag != "dd"]
    assert headings[:3] == ["Results: toy", "toy", "Side by side: accuracy"]
    assert [text for text in headings if text.startswith("toy: ")] == ["toy: seed 0", "toy: seed 1"]
    facts = [text for tag, text in whole.headings if tag == "dd"]
    git = json.loads((folders / "seed=0/config.json").read_text())["git"] or "not recorded"
    command = "python run.py --exp toy --seed 0"
    assert facts[:5] == ["toy", "seed 0", command, git, "8 × cpu"]
    assert "yes, not real" in facts
    assert whole.text.count("generated data, not real") == 1
    assert "no" in facts
    assert sum(fact.startswith("yes, after ") for fact in facts) == 2


def test_tables_have_every_cell_and_nothing_in_them_is_taken_for_html(whole):
    side, board, csv_table, last = whole.tables
    assert side == [
        ["run", "--seed", "ldr_kl"],
        ["seed 0", "0", "0.4000"],
        ["seed 1", "1", "0.6000"],
    ]
    assert board == [
        ["loss", "accuracy", "on"],
        [NASTY, "0.5000 ± 0.0312", ""],
        ["b", "", "True"],
    ]
    assert csv_table == [["a", "b"], ["1", "x"], ["2.500", "NaN"]]
    assert last == [["epoch", "method", "accuracy"], ["2", "ldr_kl", "0.6000"]]


def test_a_figure_is_there_once_as_svg(whole):
    (image,) = whole.images
    assert image["src"].startswith("data:image/svg+xml;base64,")
    assert image["alt"] == "plot"


def test_runs_that_differ_in_their_seed_have_common_curves(whole):
    assert "default: mean ± standard deviation over 2 seeds" in whole.text
    runs = [rows_of(0.2, 0.4), rows_of(0.4, 0.6, 0.7)]
    epochs, mean, spread = report_curves.curves_of(runs, "accuracy")["ldr_kl"]
    assert epochs.tolist() == [1, 2, 3]
    np.testing.assert_allclose(mean, [0.3, 0.5, 0.7])
    np.testing.assert_allclose(spread, [np.std([0, 0.2], ddof=1)] * 2 + [np.nan])


def test_curves_keep_methods_apart_and_leave_out_what_is_no_number():
    rows = rows_of(0.2, 0.4) + rows_of(0.1, math.nan, method="ce")
    rows = [row | {"note": "x", "on": True, "examples": 3} for row in rows]
    assert report_curves.columns_of(rows) == ["accuracy"]
    assert sorted(report_curves.curves_of([rows], "accuracy")) == ["ce", "ldr_kl"]
    svg = report_curves.curves_svg([rows], "f1")
    assert svg.startswith("<svg ")
    assert "currentColor" in svg
    assert "http" not in svg
    assert 'id="f1-' in svg
    assert svg.count("url(#") == svg.count("url(#f1-") > 0
    assert report_curves.curves_svg([[{"dataset": "letter", "top_1": 0.5}]], "f2") is None
    assert report_curves.curves_svg([[]], "f3") is None


def test_unlike_losses_have_axes_of_their_own_and_nothing_is_empty():
    rows = [
        {"epoch": 1, "method": method, "accuracy": 0.5, "loss": loss, "memorized": math.nan}
        for method, loss in (("ce", 2.0), ("ldr_kl", -7.0))
    ]
    titles = [panel.title for panel in report_curves.panels_of([rows])]
    assert titles == ["accuracy", "loss of ce", "loss of ldr_kl"]
    assert [p.title for p in report_curves.panels_of([rows[:1]])] == ["accuracy", "loss"]
    svg = report_curves.curves_svg([rows], "f1")
    assert svg.count('id="f1-axes_') == 3


RESULTS = [
    {"method": "ce", "accuracy %": 90.0, "std": 1.234, "gain": None},
    {"method": "ldr_kl", "accuracy %": 93.0, "std": 0.5, "gain": 3.0},
]


def test_runs_are_compared_by_the_same_result_of_the_same_methods(tmp_path):
    for seed, rows in enumerate((RESULTS, RESULTS[::-1])):
        artifacts = [Artifact("other", [{"x": 1.0}]), Artifact("results", rows)]
        write_run(tmp_path / str(seed), {"seed": seed}, rows_of(0.1, method="ce"), artifacts)
    runs = saved_runs.find_runs([tmp_path])
    name, found = side_by_side.headlines(runs)
    assert name == "accuracy %"
    assert found == [{"ce": "90.00 ± 1.23", "ldr_kl": "93.00 ± 0.50"}] * 2
    # A run that has not got so far is compared by what both have.
    unfinished = runs[1]._replace(summary=None)
    name, found = side_by_side.headlines([runs[0], unfinished])
    assert (name, found) == ("accuracy", [{"ce": 0.1}, {"ce": 0.1}])
    of_soft_labels = [{"row": "hard", "per class": 1, "test %": 50.0, "std": None}]
    soft = runs[0]._replace(summary={"tables": {"results": of_soft_labels}})
    assert side_by_side.headlines([soft]) == ("test %", [{"hard, per class 1": 50.0}])


def test_the_command_of_a_run_is_one_that_runs():
    overrides = {"loss": "ldr_kl", "rates": [0.1, 1], "margin": -0.5, "name": "a b"}
    config = {"experiment": "toy", "overrides": overrides, "argv": [], "data_dir": "my data"}
    config["program"] = "python 'my studies/run.py'"
    command = results_report._command(saved_runs.Run(pathlib.Path("toy/x"), config, [], None))
    words = shlex.split(command)
    assert words[:4] == ["python", "my studies/run.py", "--exp", "toy"]
    options, own, _ = frame.parse_frame(words[2:])
    assert (options.exp, options.data_dir) == ("toy", "my data")
    assert frame.pairs(own) == {
        "loss": "ldr_kl",
        "rates": "0.1,1",
        "margin": "-0.5",
        "name": "a b",
    }


def test_what_was_run_is_folded_below_the_results(whole, folders, tmp_path):
    out = tmp_path / "page.html"
    runner.write_report([str(folders), "--out", str(out)])
    section = out.read_text().split("<section>")[1]
    assert section.index("<details>") > section.index("<figure>")
    assert "<dl>" in section.split("<details>")[1]


def test_names_in_curves_are_escaped():
    svg = report_curves.curves_svg([rows_of(0.1, 0.2, method=NASTY)], "f1")
    assert "<script" not in svg
    assert NASTY in Parsed(svg).text


def test_what_older_versions_did_not_write_is_not_recorded(tmp_path):
    folder = tmp_path / "old" / "default"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    parsed = made(tmp_path, folder)
    assert [text for tag, text in parsed.headings if tag != "dd"] == ["Results: old", "old"] + [
        "old: default"
    ]
    facts = [text for tag, text in parsed.headings if tag == "dd"]
    assert facts.count("not recorded") == 5
    assert "no" in facts


def test_a_run_that_goes_on_is_shown_up_to_its_last_whole_row(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config({})))
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "bad": "NaN"}\n{"epoch": 2, "ba')
    (run,) = saved_runs.find_runs([tmp_path])
    assert run.summary is None
    assert run.rows[0]["epoch"] == 1
    assert math.isnan(run.rows[0]["bad"])
    assert len(run.rows) == 1


def test_folders_are_found_below_and_each_once(folders):
    found = saved_runs.find_runs([folders.parent, folders / "seed=1"])
    assert [run.path.name for run in found] == ["seed=0", "seed=1"]


def test_a_large_table_is_named_but_not_shown():
    rows = [{"a": i} for i in range(page.MAX_ROWS + 1)]
    assert "1,001 rows" in page.table(rows)
    assert page.table(rows[1:]).count("<tr>") == 1 + page.MAX_ROWS


def test_errors_are_one_line_that_says_what_to_do(tmp_path, capsys, folders):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_bytes(b'{"a": \xff')
    out = ["--out", str(tmp_path / "page.html")]
    cases = [
        ([str(tmp_path / "emty"), *out], "did you mean empty?"),
        ([str(tmp_path / "empty"), *out], "has no results"),
        ([str(tmp_path / "broken"), *out], "is not JSON"),
        ([str(folders)], "--out"),
        ([str(folders), "--out", str(tmp_path)], "is a folder"),
        ([str(folders), "--out", str(tmp_path / "no" / "page.html")], "there is no folder"),
    ]
    for argv, expected in cases:
        assert runner.write_report(argv) == 2
        printed = capsys.readouterr().err
        assert expected in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
