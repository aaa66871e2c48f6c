import numpy as np
import pytest
from scipy import ndimage

from fasa.data import scenes
from fasa.errors import UserError


@pytest.mark.parametrize("face", ["DejaVuSans", "DejaVuSansMono-Bold", "DejaVuSerif-Italic"])
@pytest.mark.parametrize("character", "oiё♥")
def test_body_covers_the_strokes_and_has_no_holes(character, face):
    strokes, body = scenes.turn(scenes.sticker(character, face), 60, 0.2)
    assert ((strokes < 0) <= (body < 0)).all()
    assert (strokes < 0).sum() > 50
    assert (ndimage.binary_fill_holes(body < 0) == (body < 0)).all()


def test_body_is_a_border_of_even_width_around_the_strokes():
    strokes, body = scenes.turn(scenes.sticker("I", "DejaVuSans"), 62, 0)
    assert body.shape[0] == pytest.approx(62, abs=1)
    rows, columns = np.nonzero(strokes < 0)
    border = 62 * scenes.BORDER / (1 + 2 * scenes.BORDER)
    for width in (
        rows.min(),
        body.shape[0] - 1 - rows.max(),
        columns.min(),
        body.shape[1] - 1 - columns.max(),
    ):
        assert width == pytest.approx(border, abs=1.01)


def test_turning_keeps_the_area():
    outlines = scenes.sticker("F", "DejaVuSans")
    straight, left, right = (scenes.turn(outlines, 80, a)[1] < 0 for a in (0, -0.3, 0.3))
    assert left.sum() == pytest.approx(straight.sum(), rel=0.02)
    assert right.sum() == pytest.approx(straight.sum(), rel=0.02)


def test_a_turned_sticker_agrees_with_a_turned_picture():
    outlines = scenes.sticker("F", "DejaVuSans")
    upright = np.pad(scenes.turn(outlines, 90, 0)[1] < 0, 30)
    turned = ndimage.rotate(upright.astype(float), -15, reshape=False, order=1) > 0.5
    turned = turned[ndimage.find_objects(turned.astype(int))[0]]
    ours = scenes.turn(outlines, 90, np.deg2rad(15))[1] < 0
    height, width = np.minimum(ours.shape, turned.shape)
    assert np.abs(np.subtract(ours.shape, turned.shape)).max() <= 1
    assert (ours[:height, :width] == turned[:height, :width]).mean() > 0.96


def test_paint_is_reproducible_and_leaves_every_object_in_sight():
    pictures = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        picture, shown = scenes.paint(list("AbgжΩ♥öЯ"), 128, (28, 60), rng)
        pictures.append(picture)
    np.testing.assert_array_equal(*pictures)
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
    assert set(np.unique(shown)) == {*range(-1, 8)}


def test_visible_share(monkeypatch):
    turned = []

    def record(*args):
        turned.append(turn(*args))
        return turned[-1]

    turn = scenes.turn
    monkeypatch.setattr(scenes, "turn", record)
    rng = np.random.default_rng(0)
    for _ in range(10):
        turned.clear()
        _, shown = scenes.paint(list("AgЖo♥Ш"), 110, (40, 60), rng)
        shares = [(shown == i).sum() / (body < 0).sum() for i, (_, body) in enumerate(turned[-6:])]
        assert min(shares) >= scenes.VISIBLE
        assert shares[-1] == 1


def test_what_lies_on_top_is_painted_last():
    picture, shown = scenes.paint(["■"], 64, (40, 40), np.random.default_rng(0))
    inner = ndimage.binary_erosion(shown == 0, iterations=10)
    assert (
        inner.any() and np.ptp(picture[inner], axis=0).max() == 0
    )  # strokes of one colour, the ground hidden


def test_objects_that_do_not_fit_are_refused():
    with pytest.raises(
        UserError, match=r"data\.objects: 9 objects of 60 to 60 pixels do not fit an image of 64"
    ):
        scenes.paint(["■"] * 9, 64, (60, 60), np.random.default_rng(0))
