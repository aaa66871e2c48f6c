import numpy as np
import pytest

from fasa.errors import UserError
from fasa.record import STEP, Rare, Record, Scenes

PASSES = [
    dict(iteration=60, stage=0, probability=[0.5, 0.25], group=[0, 1], class_loss=[1.5, None]),
    dict(iteration=120, stage=0, probability=[0.55, 0.25], group=[0, 0], class_loss=[1.25, 3.0], skipped=2),
]

RARE = Rare(
    np.array([0.123, np.nan, 1.0]),
    np.array([0.5, np.nan, 0.75]),
    np.array([0, 1]),
    np.array([[1.0, 2, 3, 4.5], [np.nan] * 4]),
    [b"PoS1", b""],
)
SCENES = Scenes(
    np.array([7, 2**40]),
    np.array([1, 0]),
    np.array([5, 2**40]),
    np.array([0.3, 0.95]),
    np.array([[1.0, 2, 3, 4.5], [0, 0, 1, 1]]),
    [b"PoS1", b"abc"],
)


def record():
    rng = np.random.default_rng(0)
    replicates = dict(segm_AP=100 * rng.random(50), bbox_APr=np.array([np.nan, 100.0, *range(48)]))
    metrics = dict(segm_AP=100 / 3, bbox_APr=1e-7)
    ap = dict(segm=np.array([1 / 3, np.nan]), bbox=np.array([50.0, 0.0]))
    return Record(metrics, 2**31 + 5, replicates, ap, RARE, SCENES, PASSES, "A processor")


def test_what_is_kept_comes_back(tmp_path):
    before = record()
    before.save(tmp_path / "a.npz")
    after = Record.load(tmp_path / "a.npz")
    assert after.metrics == before.metrics and after.images == before.images  # to the last bit
    for name, values in before.replicates.items():
        np.testing.assert_allclose(after.replicates[name], values, rtol=0, atol=STEP / 2 + 1e-9)
    for kind, values in before.class_ap.items():
        np.testing.assert_allclose(after.class_ap[kind], values, rtol=1e-6)
    for mine, theirs in zip(after.rare[:4], RARE[:4], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3)
    for mine, theirs in zip(after.scenes[:5], SCENES[:5], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3)
    assert after.rare.mask == RARE.mask and after.scenes.mask == SCENES.mask
    assert after.machine == "A processor"
    assert [one["iteration"] for one in after.passes] == [60, 120]
    assert [one["group"] for one in after.passes] == [[0, 1], [0, 0]]
    assert [one["skipped"] for one in after.passes] == [0, 2]
    assert after.passes[1]["probability"] == pytest.approx([0.55, 0.25])
    assert np.isnan(after.passes[0]["class_loss"][1])


def test_equal_records_are_equal_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        record().save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_row_without_anything_is_kept_too(tmp_path):
    Record({}, 0, {}, {}).save(tmp_path / "a.npz")
    after = Record.load(tmp_path / "a.npz")
    assert not (after.metrics or after.replicates or after.passes or after.rare.mask or after.machine)
    assert not (len(after.scenes.image) or len(after.scenes.score) or after.scenes.mask)


@pytest.mark.parametrize("content", [b"", b"PK", b"nothing"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="a.npz: cannot read a run's record .*; evaluate again"):
        Record.load(tmp_path / "a.npz")
    with pytest.raises(UserError, match="none.npz"):
        Record.load(tmp_path / "none.npz")


def test_a_damaged_file_is_one_line_wherever_it_is_damaged(tmp_path):
    path = tmp_path / "a.npz"
    record().save(path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            Record.load(path)
        except UserError:
            refused += 1
    assert refused > len(whole) / 14  # dates and the like may change
