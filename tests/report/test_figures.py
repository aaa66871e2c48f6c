import matplotlib

matplotlib.use("agg")
import numpy as np
import pytest
from matplotlib import pyplot as plt

from fasa.data.lvis import read_annotations
from fasa.report import figures, style
from fasa.report.style import COLOUR, MARKER
from fasa.report.tide_types import tide_types


def explained(figure):
    """What the legends of a figure say."""
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def run(**more):
    """A run's metrics, AP and TIDE's."""
    names = [
        "AP",
        "APr",
        "APc",
        "APf",
        *(f"tide_{name}" for name in [*figures.TIDE_MAIN, *figures.TIDE_SPECIAL]),
    ]
    return {f"{kind}_{name}": float(i) for kind in figures.NAMES for i, name in enumerate(names)} | more


def history(**signals):
    return [dict(iteration=t, probability=[0.1, 0.2], **signals) for t in (1, 2)]


TWO = dict(mask_rcnn={0: run(), 1: run()}, mask_rcnn_fasa={0: run()})
RARE_ABSENT = dict(mask_rcnn={0: run(segm_APr=float("nan"), bbox_APr=float("nan"))})
FIGURES = dict(
    instance_counts=lambda: figures.instance_counts(np.array([0, 5]), "rc"),
    one_class=lambda: figures.instance_counts(np.array([5]), "r"),
    ap_by_frequency=lambda: figures.ap_by_frequency(TWO),
    no_rare_bars=lambda: figures.ap_by_frequency(RARE_ABSENT),
    rows_by_frequency=lambda: figures.rows_by_frequency(TWO, "Rows"),
    no_rare_rows=lambda: figures.rows_by_frequency(RARE_ABSENT, "Rows"),
    gain_by_class=lambda: figures.gain_by_class({"a over b": np.array([1.0, np.nan])}, [3, 5], "rf"),
    margin_sensitivity=lambda: figures.margin_sensitivity({0.1: {0: run()}, 0.2: {0: run(), 1: run()}}),
    regimes=lambda: figures.regimes({"one": TWO}, dict(mask_rcnn=0.04, mask_rcnn_fasa=0.5)),
    scale_curve=lambda: figures.scale_curve({"x1": TWO, "x2": TWO}, dict(x1=1, x2=2)),
    partner_shares=lambda: figures.partner_shares({1: (25, 0), 8: (50, 12.5)}),
    tide_errors=lambda: figures.tide_errors(TWO),
    class_accuracy=lambda: figures.class_accuracy(dict(ce=[dict(counts=[3, 1], per_class=[9.0, 1.0])])),
    adaptation=lambda: figures.adaptation([history(class_loss=[None, 1.0])], "rf"),
    group_map=lambda: figures.group_map(np.eye(3)[:, :2], np.array([0, 0, 1]), "abc", "rcf"),
    tide_types=tide_types,
)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error")
def test_each_figure_has_a_title_a_legend_and_the_same_bytes_twice(name, tmp_path):
    with matplotlib.rc_context():
        style.use()
        for copy in ("a", "b"):
            figure = FIGURES[name]()
            assert figure.get_suptitle() and explained(figure)
            style.save(figure, tmp_path / copy, ["svg"])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_counts_are_drawn_by_frequency():
    figure = figures.instance_counts(np.array([3, 200, 40]), ["r", "f", "c"])
    bars = {container.get_label(): container for container in figure.axes[0].containers}
    drawn = [(bar.get_x() + 0.5, bar.get_height()) for name in sorted(bars) for bar in bars[name]]
    assert sorted(drawn) == [(0, 200), (1, 40), (2, 3)]
    assert set(bars) == {"rare (1)", "common (1)", "frequent (1)"}


def test_bars_are_the_means_over_seeds():
    def run(x):
        return {
            f"{kind}_{m}": x + i for kind in ("segm", "bbox") for i, m in enumerate(("APr", "APc", "APf"))
        }

    figure = figures.ap_by_frequency({"a": {0: run(1.0), 1: run(3.0)}, "b": {0: run(5.0), 1: run(5.0)}})
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [2, 3, 4, 5, 6, 7]


def test_tide_bars_are_the_means_over_seeds():
    names = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg"]
    runs = {x: {f"segm_tide_{name}": x + i for i, name in enumerate(names)} for x in (1, 3)}
    left, right = figures.tide_errors({"a": runs}).axes
    assert [bar.get_height() for bar in left.patches] == [2, 3, 4, 5, 6, 7]
    assert [bar.get_height() for bar in right.patches] == [8, 9]
    assert [label.get_text() for label in left.get_xticklabels()] == names[:6]


def test_a_row_that_adapts_to_the_metric_shows_it():
    history = [dict(iteration=t, probability=[0.1], class_ap=[0.2 * t]) for t in (1, 2)]
    axes = figures.adaptation([history], ["r"]).axes[1]
    assert axes.lines[0].get_ydata() == pytest.approx([0.2, 0.4]) and "AP" in axes.get_ylabel()


def test_adaptation_curves_are_means_of_groups():
    history = [
        dict(iteration=10 * t, probability=[0.1 * t, 0.3 * t, 0.5], class_loss=[1.0, None, 2.0 * t])
        for t in (1, 2)
    ]
    figure = figures.adaptation([history, history], ["r", "r", "c"])
    rare = figure.axes[0].lines[0]
    assert rare.get_xdata().tolist() == [10, 20] and rare.get_ydata() == pytest.approx([0.2, 0.4])
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx([1, 1])  # the class not measured is left out


def test_without_a_pass_the_figure_says_so():
    assert figures.adaptation([[]], ["r"]).axes[0].texts[0].get_text() == "no row adapted"


def test_scenes_and_group_map_draw(tiny_glyphs):
    annotations = read_annotations(tiny_glyphs / "annotations" / "train.json")
    assert len(figures.scenes(tiny_glyphs, annotations, 8).axes) == 8
    figure = figures.group_map(
        np.random.default_rng(0).normal(size=(3, 2)), np.array([0, 0, 1]), ["a", "b", "c"], "rcf"
    )
    assert figure.get_suptitle() == "3 classes by their mean embeddings: 1 group of two or more, 1 alone"
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "a", "b", "c"]
    assert explained(figure) == ["1: 2 classes", "1 class alone", "a rare class"]


def test_of_a_thousand_classes_the_names_in_small_groups_are_written():
    groups, names = np.array([0] * 997 + [1, 1, 2]), [f"c{k}" for k in range(1000)]
    axes = figures.group_map(np.zeros((1000, 2)), groups, names, ["f"] * 1000).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "c997", "c998"]


def test_groups_beyond_the_legend_are_counted():
    groups = np.repeat(np.arange(figures.LISTED + 6), 2)
    figure = figures.group_map(np.zeros((len(groups), 2)), groups, ["a"] * len(groups), "f" * len(groups))
    assert explained(figure)[-2:] == ["and 6 smaller ones", "a rare class"]


def test_rows_by_frequency_show_each_seed_and_what_compares():
    runs = dict(
        plain={
            0: dict(segm_APr=1.0, segm_APc=2.0, segm_APf=3.0),
            1: dict(segm_APr=3.0, segm_APc=2.0, segm_APf=3.0),
        },
        other={0: dict(segm_APr=5.0, segm_APc=2.0)},
    )
    figure = figures.rows_by_frequency(runs, "Rows")
    rare = figure.axes[0]
    assert [text.get_text() for text in rare.get_yticklabels()] == ["plain", "other"]
    *dots, line = rare.lines
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(1, 0), (3, 0), (5, 1)]
    assert [dot.get_markerfacecolor() == "none" for dot in dots] == [False, True, False]
    assert set(line.get_xdata()) == {1}  # of seed 0, which both have
    assert [axes.get_title() for axes in figure.axes] == ["rare", "common", "frequent"]
    assert {round(float(np.ptp(axes.get_xlim())), 9) for axes in figure.axes} == {
        4.4
    }  # as many points in each


def test_margins_are_lines_over_their_values():
    figure = figures.margin_sensitivity(
        {0.0: {0: dict(segm_AP=10.0)}, 0.5: {0: dict(segm_AP=2.0), 1: dict(segm_AP=4.0)}}
    )
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [0.0, 0.5] and list(line.get_ydata()) == [10.0, 3.0]


def test_partners_are_shown_in_percent():
    figure = figures.partner_shares({1: (25, 0), 8: (50, 12.5)})
    some, every = figure.axes[0].lines
    assert list(some.get_ydata()) == [25, 50] and list(every.get_ydata()) == [0, 12.5]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["1", "8"]


NOTHING = [
    figures.ap_by_frequency,
    lambda nothing: figures.rows_by_frequency(nothing, "Rows"),
    figures.tide_errors,
    figures.margin_sensitivity,
    figures.partner_shares,
    figures.class_accuracy,
    lambda nothing: figures.gain_by_class(nothing, [], []),
]


@pytest.mark.parametrize("figure", NOTHING)
def test_rows_that_have_not_run_are_said_so(figure):
    assert [text.get_text() for text in figure({}).axes[0].texts] == ["none of these rows has run"]


def test_gains_by_class_are_dots_by_group_and_outliers_arrows():
    gain = np.array([1.0, 3.0, -2.0, 0.5, np.nan, 90.0])
    figure = figures.gain_by_class({"row\nover base": gain}, [3, 5, 50, 200, 400, 9], list("rrcffr"))
    (axes,) = figure.axes
    zero, rare, up, down, mean, *_ = axes.lines
    assert list(rare.get_xdata()) == [3, 5] and list(rare.get_ydata()) == [1, 3]
    top = axes.get_ylim()[1]
    assert list(up.get_xdata()) == [9] and 3 < up.get_ydata()[0] <= top < 90 and not len(down.get_xdata())
    assert mean.get_ydata()[0] == pytest.approx(94 / 3)  # of all, outliers too
    colours = {line.get_marker(): line.get_color() for line in axes.lines}
    assert {key: colours[MARKER[key]] for key in MARKER} == {key: COLOUR[key] for key in MARKER}
    assert axes.get_title() == "row\nover base"
    assert [text.get_text() for text in axes.texts] == ["1 beyond the frame, up to +90.0"]
    assert explained(figure)[-1] == "a class beyond the frame"


def test_without_an_outlier_no_mark_of_one_is_explained():
    figure = figures.gain_by_class({"a over b": np.array([1.0, -1.0])}, [3, 5], "rr")
    assert explained(figure) == ["a rare class", "mean of its group"] and not figure.axes[0].texts
