import hashlib

import pytest
from cifar_archive import write_archive

from fasa.data import cifar_lt
from fasa.data.classification import load
from fasa.data.images import LongTailed
from fasa.errors import UserError


def test_every_kind_loads(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "cifar.tar.gz")
    monkeypatch.setattr(cifar_lt, "HASH", f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}")
    for kind, settings, shape in (
        ("glyphs", dict(classes=3, n_max=4, ratio=2.5, adapt=1, test=1, object_size=[9, 12]), (7, 16, 16, 3)),
        ("digits", dict(n_max=20, ratio=10), (78, 8, 8, 1)),
        ("cifar100", dict(archive=str(archive), ratio=5), (20, 32, 32, 3)),
    ):
        data = load(kind, settings, 1)
        assert isinstance(data, LongTailed) and data.train.images.shape == shape


@pytest.mark.parametrize(
    ("kind", "settings", "seed", "message"),
    [
        ("cifar10", {}, 0, r"data\.kind: is 'cifar10'; known: glyphs, digits, cifar100"),
        ("digits", {"nmax": 5}, 0, r"data\.nmax is unknown; known: adapt, n_max, ratio, test"),
        ("digits", {"seed": 5}, 0, r"data\.seed is unknown"),
        ("digits", {"ratio": "50"}, 0, r"data\.ratio is '50', not float"),
        ("cifar100", {"archive": 3}, 0, r"data\.archive is 3, not str \| None"),
        ("glyphs", None, 0, r"data is None, not a section of keys and values"),
        ("digits", {}, -1, r"data\.seed: is -1; it must be a whole number from 0 to 4294967295"),
        ("digits", {}, 0.5, r"data\.seed: is 0\.5"),
    ],
)
def test_what_is_not_understood_is_refused(kind, settings, seed, message):
    with pytest.raises(UserError, match=message) as error:
        load(kind, settings, seed)
    assert "\n" not in str(error.value)
