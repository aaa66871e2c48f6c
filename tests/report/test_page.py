"""The two pages of the report, from one executed notebook."""

import base64
import re

import matplotlib.pyplot as plt
import pytest

from fasa.errors import UserError
from fasa.report import page, style
from fasa.report.method import ALT, drawing
from fasa.report.tables import markdown

TABLE = markdown(["", "mask AP"], [["Mask R-CNN, a row with quite a lot of words in its name", "1.0"]])


def cell(source, *outputs, kind="code"):
    return dict(cell_type=kind, source=[source], outputs=list(outputs), metadata={})


def shown(text):
    return dict(output_type="display_data", data={"text/markdown": [text]}, metadata={})


@pytest.fixture
def notebook():
    figure = dict(
        data={"image/png": "AAAA"}, metadata={"image/png": dict(alt="A map.", place="report/map.png")}
    )
    return dict(
        cells=[
            cell("# A report\n", kind="markdown") | dict(outputs=[]),
            cell("secret = 1", dict(output_type="stream", text="printed")),
            cell("## Table 1: it costs < 5 & more", kind="markdown"),
            cell("show(x)", shown(TABLE), shown("### Smaller\n\nSee [Figure 1](#figure-1).")),
            cell("## Figure 1: a map", kind="markdown"),
            cell("show_figure(y)", figure),
        ]
    )


def test_the_text_is_what_a_reader_sees(notebook):
    text = page.text(notebook)
    assert text.startswith(
        "# A report\n\n- [Table 1: it costs < 5 & more](#table-1)\n- [Figure 1: a map](#figure-1)\n"
    )
    assert TABLE in text and "![A map.](report/map.png)" in text
    assert '<a id="figure-1"></a>\n\n## Figure 1: a map' in text
    assert "secret" not in text and "printed" not in text and "AAAA" not in text
    assert page.section(text, "Figure 1: a map") == "![A map.](report/map.png)" and not page.section(
        text, "No"
    )


def test_the_page_holds_its_figures_and_loads_nothing(notebook, tmp_path):
    style.use()
    figure, _ = plt.subplots(figsize=(1, 1))
    (tmp_path / "report").mkdir()
    style.save(figure, tmp_path / "report" / "map")
    html = page.page(page.text(notebook), tmp_path)
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', html) == [] and "<script" not in html
    (source,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="A map." ?/>', html)
    assert base64.b64decode(source) == (tmp_path / "report" / "map.svg").read_bytes()
    links, places = (re.findall(rf'{name}="#?([\w-]+)"', html) for name in ("a href", "a id"))
    assert set(links) == set(places) == {"table-1", "figure-1"}
    assert '<div class="wide"><table>' in html and '<td class="text">Mask R-CNN, a row' in html
    assert "<title>A report</title>" in html and "<p>See <a" in html and "prefers-color-scheme: dark" in html
    assert page.page(page.text(notebook), tmp_path) == html


def test_cells_that_are_long_wrap_and_verdicts_have_a_mark(tmp_path):
    long = f"`{'x' * 30}` and **{'y' * 30}**"
    html = page.page(
        f"# A report\n\n{markdown(['', 'b'], [['✓ seen', long], ['… not run', 'short']])}\n", tmp_path
    )
    assert '<td data-verdict="✓">✓ seen</td>' in html and '<td data-verdict="…">' in html
    assert '<td class="text"><code>' in html and "<td>short</td>" in html


def test_the_papers_number_stands_below_ours_and_files_beside_the_page_are_named(tmp_path):
    rows = [["A row, in a few words<br>`row`", "1.0 ± 0.2 (1.2)"], ["all (of them)", "not run (22.6)"]]
    html = page.page(f"# A report\n\n{markdown(['', 'b'], rows)}\n\n[More](../../docs/more.md).\n", tmp_path)
    assert '<td class="words">A row, in a few words<br/><code>row</code></td>' in html
    assert "<td>1.0 ± 0.2<br>(1.2)</td>" in html and "<td>all (of them)</td>" in html
    assert "<td>not run<br>(22.6)</td>" in html
    assert "More (<code>docs/more.md</code>)." in html


def test_a_figure_of_another_stage_is_shown_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "report@a")
    told = []
    monkeypatch.setattr(page, "display", lambda image, metadata: told.append(metadata["image/png"]))
    page.show_saved("choice/curve", "report/curve", "A curve.")
    style.use()
    style.save(plt.subplots(figsize=(1, 1))[0], "choice/curve")
    page.show_saved("choice/curve", "report/curve", "A curve.")
    assert told == [dict(alt="A curve.", place="report/curve.png")]
    for suffix in ("png", "svg"):
        same = [(tmp_path / folder / f"curve.{suffix}").read_bytes() for folder in ("choice", "report")]
        assert same[0] == same[1]


def test_a_section_goes_on_behind_places_within_it():
    text = (
        '## Claims\n\none\n\n<a id="claims-a"></a>\n\n### A\n\ntwo\n\n<a id="cost"></a>\n\n## Cost\n\nthree'
    )
    assert page.section(text, "Claims").endswith("### A\n\ntwo") and page.section(text, "Cost") == "three"


def test_a_figure_that_is_not_there_is_named(notebook, tmp_path):
    with pytest.raises(UserError, match=r"report/map\.svg: no such figure"):
        page.page(page.text(notebook), tmp_path)


def test_a_stage_that_has_not_run_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert page.main(["report@small"]) == 1 == page.main([])
    said = capsys.readouterr().err
    assert "executed/small/report.ipynb: no such notebook; run: fasa run report@small" in said


def test_the_method_is_drawn_the_same_twice_and_inside_its_frame(tmp_path):
    style.use()
    for name in "ab":
        figure = drawing()
        style.save(figure, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    (axes,) = figure.axes
    assert axes.texts
    frame = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, text
    assert len(ALT) > 100
