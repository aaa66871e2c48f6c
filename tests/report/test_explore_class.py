"""What notebooks show of one class and one image, on the tiny data set."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
import pycocotools.mask
import pytest
import torch

from fasa.class_stats import ClassMoments
from fasa.data import lvis
from fasa.data.census import census, text
from fasa.errors import UserError
from fasa.evaluation import Detections, evaluate, save_detections
from fasa.report import explore
from fasa.report.pictures import Pictures


@pytest.fixture
def classes(tiny_glyphs, tmp_path, monkeypatch):
    """The tiny data set as a profile of the pipeline, which all paths are relative to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(tiny_glyphs)
    parts = {
        part: lvis.read_annotations(tiny_glyphs / "annotations" / f"{part}.json") for part in ("train", "val")
    }
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    (tmp_path / "results" / "tiny" / "data.json").write_text(text(census(parts)))
    return explore.Classes.read("tiny")


@pytest.fixture
def saved():
    """Of six classes in the plane: 0 and 1 point the same way, 2 across, 3 back; 4 and 5 are unseen."""
    moments = ClassMoments(6, 2)
    moments.mean[:4] = torch.tensor([[1.0, 0], [3, 1], [0, 2], [-1, 0]])
    moments.var[0] = torch.tensor([4.0, 0.25])
    moments.seen[:4] = 1
    return moments


def test_the_nearest_are_those_whose_means_point_the_same_way(saved):
    assert explore.nearest(saved, 0) == [1, 2, 3] and explore.nearest(saved, 0, 1) == [1]


def test_virtual_features_have_the_moments_of_their_class(saved):
    drawn = explore.virtual(saved, 0, 20_000)
    assert drawn.mean(axis=0) == pytest.approx([1, 0], abs=0.05)
    assert drawn.std(axis=0) == pytest.approx([2, 0.5], rel=0.05)


def test_classes_are_offered_rare_ones_first(classes):
    for entry, frequency in zip(classes.census, "fcrrcf", strict=True):  # of so few images all are rare
        entry["frequency"] = frequency
    options = classes.options()
    order = [("rcf".index(classes.frequency(k)), -classes.census[k]["train"]) for _, k in options]
    assert order == sorted(order) and len(options) == 6
    assert all(classes.shown(k) in label and classes.name(k) in label for label, k in options)


def test_all_objects_of_a_class_are_shown(classes):
    k = classes.options()[0][1]
    figure = explore.objects(classes, k)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == min(classes.census[k]["train"], explore.OBJECTS)
    assert f"{classes.census[k]['train']} objects" in figure.get_suptitle()


def test_how_often_a_class_is_drawn_beside_its_group(classes):
    passes = [
        dict(iteration=t, probability=[0.1 * t] * 6, class_loss=[1.0] * 6, group=[0, 0, 1, 1, 1, -1])
        for t in (1, 2)
    ]
    chance, loss = explore.sampling(classes, passes, 2).axes
    assert len(chance.lines) == len(loss.lines) == 3  # two others are in its group
    assert list(chance.lines[-1].get_ydata()) == pytest.approx([0.1, 0.2])
    assert len(explore.sampling(classes, passes, 5).axes[0].lines) == 1  # in no group
    assert "does not adapt" in explore.sampling(classes, [], 2).axes[0].texts[0].get_text()


def detections(pictures, shift=0):
    """The truth, each object as a class that is so many further, with a score of 0.9."""
    gt = pictures.truth
    ids = gt.category_ids[(gt.label + shift) % len(gt.category_ids)]
    found = Detections(gt.image_ids[gt.image], ids, np.full(len(ids), 0.9), gt.shape)
    rle = [
        dict(size=size.tolist(), counts=one)
        for size, one in zip(gt.sizes[gt.image], gt.shape.counts(), strict=True)
    ]
    boxes = found._replace(shape=pycocotools.mask.toBbox(rle))
    save_detections(boxes, "detections.npz", gt.shape, compress=True)
    return pictures.read("detections.npz")


def test_the_truth_and_the_same_as_detections_are_drawn_beside_each_other(classes):
    pictures = Pictures("tiny", classes)
    found = detections(pictures)
    rare = [int(label.split()[3]) for label, _ in pictures.options()]
    assert rare == sorted(rare, reverse=True) and len(rare) == 6
    image_id = pictures.options()[0][1]
    drawn = pictures.beside(image_id, found)
    height, width, _ = drawn.shape
    assert width == 2 * height >= 960
    nothing = pictures.beside(image_id, found, np.zeros(0, int))
    left, right = drawn[:, : width // 2].astype(int), nothing[:, width // 2 :].astype(int)
    assert np.abs(left - right).mean() > 3  # where nothing was found the image is as it is
    k = int(pictures.truth.label[0])
    assert "no errors" in pictures.errors(found, k).axes[0].texts[0].get_text()
    curves = explore.precision_recall(classes, evaluate(pictures.truth, found.judged), k).axes[0]
    assert all("AP 100.0" in line.get_label() for line in curves.lines)


def test_an_error_is_shown_and_said(classes):
    pictures = Pictures("tiny", classes)
    found = detections(pictures, shift=1)
    k = int((pictures.truth.label[0] + 1) % 6)
    titles = [axes.get_title() for axes in pictures.errors(found, k).axes]
    about = classes.shown((k - 1) % 6)
    assert titles[0].startswith(f"Cls: {classes.shown(k)} 0.90, IoU 1.00 with {about}; cured: ")
    axes = explore.error_counts(classes, pictures.truth, found.judged, k).axes[0]
    assert axes.patches[0].get_width() == (pictures.truth.label == (k - 1) % 6).sum()


def test_runs_that_have_been_evaluated_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no row has been evaluated here yet.*'evaluate@tiny-"):
        explore.evaluated("tiny", "a-0")
    folder = Path("runs/tiny/evaluate")
    for name in ("a-0", "b-0", "c-0"):
        (folder / name).mkdir(parents=True)
        (folder / name / "detections.npz").touch()
    (folder / "d-0").mkdir()
    names = ["b-0", "a-0", "c-0"]
    assert explore.evaluated("tiny", "b-0") == [(name, folder / name / "detections.npz") for name in names]
