import hashlib

import pytest
from cifar_archive import write_archive
from sets import load

from fasa.data import cifar_lt
from fasa.data.images import LongTailed
from fasa.errors import UserError


def test_every_kind_loads(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "cifar.tar.gz")
    monkeypatch.setattr(cifar_lt, "HASH", f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}")
    for section, shape in (
        (
            dict(kind="glyphs", classes=3, n_max=4, ratio=2.5, adapt=1, test=1, object_size=[9, 12]),
            (7, 16, 16, 3),
        ),
        (dict(kind="digits", n_max=20, ratio=10), (78, 8, 8, 1)),
        (dict(kind="cifar100", archive=str(archive), ratio=5), (20, 32, 32, 3)),
    ):
        data = load(section, 1)
        assert isinstance(data, LongTailed) and data.train.images.shape == shape


@pytest.mark.parametrize(
    ("section", "seed", "message"),
    [
        ({"kind": "cifar10"}, 0, r"data\.kind is 'cifar10'; known: glyphs, digits, cifar100, folder"),
        ({"kind": ["digits"]}, 0, r"data\.kind is \['digits'\]; known"),
        ({"n_max": 5}, 0, r"data\.kind is None; known"),
        (None, 0, r"data\.kind is None; known"),
        ({"kind": "digits", "nmax": 5}, 0, r"data: Object contains unknown field `nmax`"),
        ({"kind": "digits", "seed": 5}, 0, r"data: Object contains unknown field `seed`"),
        ({"kind": "digits", "ratio": "50"}, 0, r"data\.ratio: Expected `float`, got `str`"),
        ({"kind": "digits", "ratio": float("inf")}, 0, r"data\.ratio is inf"),
        ({"kind": "cifar100", "archive": 3}, 0, r"data\.archive: Expected `str | null`, got `int`"),
        ({"kind": "cifar100", "adapt": 0}, 0, r"data\.adapt: Expected `int` >= 1"),
    ],
)
def test_what_is_not_understood_is_refused(section, seed, message):
    with pytest.raises(UserError, match=message) as error:
        load(section, seed)
    assert "\n" not in str(error.value)
