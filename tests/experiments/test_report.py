import html.parser
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import page, report, report_curves, results, results_report
from experiments.outputs import Artifact

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
    assert report.main([*map(str, folders), "--out", str(out)]) == 0
    return Parsed(out.read_text())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("results") / "toy"
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    table = [{"loss": NASTY, "accuracy": 0.5, "std": math.nan}, {"loss": "b", "on": True}]
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
    assert headings[:3] == ["Results: toy", "toy", "Side by side"]
    assert [text for text in headings if text.startswith("toy: ")] == ["toy: seed 0", "toy: seed 1"]
    facts = [text for tag, text in whole.headings if tag == "dd"]
    git = json.loads((folders / "seed=0/config.json").read_text())["git"] or "not recorded"
    assert facts[:5] == ["toy", "seed 0", "--exp", git, "8 × cpu"]
    assert "yes, not real" in facts
    assert "no" in facts
    assert sum(fact.startswith("yes, after ") for fact in facts) == 2


def test_tables_have_every_cell_and_nothing_in_them_is_taken_for_html(whole):
    side, board, csv_table, last = whole.tables
    assert side == [
        ["run", "--seed", "epoch", "method", "accuracy"],
        ["seed 0", "0", "2", "ldr_kl", "0.4000"],
        ["seed 1", "1", "2", "ldr_kl", "0.6000"],
    ]
    assert board == [
        ["loss", "accuracy", "std", "on"],
        [NASTY, "0.5000", "NaN", ""],
        ["b", "", "", "True"],
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
    (run,) = results_report.find_runs([tmp_path])
    assert run.summary is None
    assert run.rows[0]["epoch"] == 1
    assert math.isnan(run.rows[0]["bad"])
    assert len(run.rows) == 1


def test_folders_are_found_below_and_each_once(folders):
    found = results_report.find_runs([folders.parent, folders / "seed=1"])
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
        assert report.main(argv) == 2
        printed = capsys.readouterr().err
        assert expected in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
