"""How figures look: colours that colour-blind readers tell apart, and files that are the same bytes twice."""

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fasa.errors import UserError
from fasa.report import style
from fasa.report.method import drawing
from fasa.report.tide_types import tide_types

DOCS = Path(__file__).parents[2] / "docs"
# What each kind of colour-blind eye sees, in linear RGB (Machado, Oliveira and Fernandes, 2009; severity 1).
EYES = dict(
    typical=np.eye(3),
    protan=[
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    deutan=[
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    tritan=[
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
TOGETHER = dict(
    frequency=[style.COLOUR[key] for key in ("r", "c", "f", "all")],
    detections=[style.COLOUR[key] for key in ("truth", "right", "wrong")],
    rows=list(style.ROWS.values()),
)


def lab(colour, eye):
    """CIELAB of a colour as an eye sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(EYES[eye] @ linear, 0, 1) / XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("what", TOGETHER)
def test_colours_that_stand_together_are_told_apart(what, eye):
    """By a CIELAB distance of 20, where 2 can be just seen side by side."""
    for one, other in combinations(TOGETHER[what], 2):
        assert np.linalg.norm(lab(one, eye) - lab(other, eye)) > 20, (one, other)


def test_no_thing_has_the_colour_of_another():
    frequency, detections, rows = (set(colours) for colours in TOGETHER.values())
    assert len(frequency) == 4 and len(detections) == 3 and len(rows) == 4
    assert frequency & detections == {"#000000"} and not (frequency | detections) & rows
    assert not set(style.GROUP_COLOURS) & (frequency | detections | rows)


def test_groups_of_a_map_differ_in_more_than_colour():
    numbers = range(len(style.GROUP_COLOURS) * len(style.GROUP_MARKERS))
    marks = {(number % len(style.GROUP_COLOURS), number % len(style.GROUP_MARKERS)) for number in numbers}
    assert len(marks) == len(numbers)


def test_rows_are_coloured_by_what_they_do():
    plain, fasa = style.row_colour("mask_rcnn"), style.row_colour("mask_rcnn_fasa")
    assert style.row_colour("ce") == plain != fasa == style.row_colour("ce_fasa_class")
    assert style.row_colour("cascade_rcnn_rfs") not in {plain, fasa, style.row_colour("mask_rcnn_rfs_fasa")}


@pytest.fixture
def figure():
    figure = Figure()
    axes = figure.subplots()
    axes.fill_between([0, 1], [0, 1], hatch="//")  # clip paths and hatches get random ids in an SVG
    return figure


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_figure_gives_the_same_bytes(kind, figure, monkeypatch, tmp_path):
    style.save(figure, tmp_path / "a")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")  # another day
    style.save(figure, tmp_path / "b")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_a_figure_is_saved_in_both_kinds_with_its_title(figure, tmp_path):
    figure.suptitle("AP by\nfrequency")
    style.save(figure, tmp_path / "new" / "a-0")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a-0.png", "a-0.svg"]
    assert "<title>AP by frequency</title>" in (tmp_path / "new" / "a-0.svg").read_text()
    assert b"AP by frequency" in (tmp_path / "new" / "a-0.png").read_bytes()


@pytest.mark.parametrize("wrong", [("a.jpg",), ("a.png",), ("a", ["pdf"])])
def test_other_kinds_are_refused(wrong, figure, tmp_path):
    path, *kinds = wrong
    with pytest.raises(UserError, match="png and svg"):
        style.save(figure, tmp_path / path, *kinds)
    assert not list(tmp_path.iterdir())


def test_style_replaces_the_users_own():
    with mpl.rc_context():
        mpl.rcParams["lines.linewidth"] = 9
        style.use()
        assert mpl.rcParams["lines.linewidth"] == mpl.rcParamsDefault["lines.linewidth"]
        assert mpl.rcParams["axes.spines.top"] is False


@pytest.mark.parametrize("name, figure", [("method", drawing), ("tide", tide_types)])
def test_the_pages_show_what_is_drawn(name, figure, tmp_path):
    """`style.use(); style.save(drawing(), "docs/method", ["svg"])`, by the pinned matplotlib."""
    with mpl.rc_context():
        style.use()
        style.save(figure(), tmp_path / name, ["svg"])
    assert (tmp_path / f"{name}.svg").read_bytes() == (DOCS / f"{name}.svg").read_bytes()
