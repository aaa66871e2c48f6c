import numpy as np
import torch
from jobs import job

import fasa
from fasa.data import lvis
from fasa.detection.keep import remarks, seen


def test_how_visible_rare_objects_are_by_hand():
    best, image = np.array([0.9, np.nan, 0.2]), np.array([0, 0, 2])
    found = seen(best, image, np.array([[1, 1, 1], [0, 5, 2], [0, 1, 0]]))
    np.testing.assert_allclose(found["score"], [110 / 3, 20, np.nan])
    np.testing.assert_allclose(found["missed"], [200 / 3, 100, np.nan])


def test_remarks_are_of_rows_whose_method_they_are_about(tiny_glyphs, tmp_path):
    assert remarks(job(tiny_glyphs), tmp_path) == {}
    told = remarks(job(tiny_glyphs, rfs=dict(threshold=1.0)), tmp_path)
    train = lvis.read_annotations(tiny_glyphs / "annotations" / "train.json")
    groups = set(lvis.frequencies(train))
    assert told.keys() == {f"{name}_{group}" for name in ("rfs", "rfs_up") for group in groups}
    assert all(told[f"rfs_up_{group}"] >= told[f"rfs_{group}"] > 1 for group in groups)

    counts = lvis.instance_counts(train)
    tail = int(sorted(counts)[-2])  # of the six classes one or two are head classes
    mixing = fasa.CAMMixing(6, 1, bank=0, tail=tail)
    mixing.counts.copy_(torch.tensor(counts))
    mixing.confusion.fill_(1 / 6)
    mixing.seen.fill_(1)
    path = tmp_path / "cam.pth"
    state = {f"roi_head.bbox_head.augmenter.{name}": value for name, value in mixing.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    told = remarks(job(tiny_glyphs, augmenter=dict(type="CAMMixing", bank=2, tail=tail)), path)
    assert list(told) == [f"cam_{share}_{size}" for size in (1, 2, 4, 8) for share in ("some", "every")]
    assert told["cam_some_8"] >= told["cam_some_2"] and told["cam_some_8"] >= told["cam_every_8"] > 0
