import numpy as np
import pytest
from scipy import ndimage

from fasa.data import scenes
from fasa.data.scenes import Thing
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
        picture, shown = scenes.paint([Thing(c) for c in "AbgжΩ♥öЯ"], 128, (28, 60), rng)
        pictures.append(picture)
    np.testing.assert_array_equal(*pictures)
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
    assert set(np.unique(shown)) == {*range(-1, 8)}


@pytest.mark.parametrize("visible", [0.3, 0.6, 1.0])
def test_visible_share(visible, monkeypatch):
    turned = []

    def record(*args):
        turned.append(turn(*args))
        return turned[-1]

    turn = scenes.turn
    monkeypatch.setattr(scenes, "turn", record)
    rng, least = np.random.default_rng(0), 1
    for _ in range(10):
        turned.clear()
        _, shown = scenes.paint([Thing(c) for c in "AgЖo♥Ш"], 140, (36, 50), rng, visible)
        shares = [(shown == i).sum() / (body < 0).sum() for i, (_, body) in enumerate(turned[-6:])]
        assert min(shares) >= visible
        assert shares[-1] == 1
        least = min(least, *shares)
    assert least < visible + 0.1  # it is made use of


def test_a_torn_sticker_is_a_piece_of_it():
    strokes, body = scenes.turn(scenes.sticker("Ж", "DejaVuSans"), 60, 0.1)
    whole, shares = (body < 0).sum(), []
    for seed in range(20):
        torn_strokes, torn = scenes.tear(strokes, body, np.random.default_rng(seed))
        assert torn.shape == torn_strokes.shape and ((torn_strokes < 0) <= (torn < 0)).all()
        assert (torn < 0).any(0)[[0, -1]].all() and (torn < 0).any(1)[[0, -1]].all()  # cropped
        shares.append((torn < 0).sum() / whole)
    low, high = scenes.TORN
    assert low - 0.02 < min(shares) < low + 0.1 and high - 0.1 < max(shares) < high + 0.02


def contrast(thing):
    """Of a sticker's body with the ground around it, and of its strokes with its body: medians of 40."""
    body, ink = [], []
    for seed in range(40):
        picture, shown = scenes.paint([thing], 64, (40, 40), np.random.default_rng(seed))
        here, ground = shown == 0, picture[shown < 0].mean(0)
        colours, counts = np.unique(picture[here], axis=0, return_counts=True)
        first = colours[counts.argmax()]  # strokes or body
        near = np.abs(colours.astype(float) - first).sum(1) < 60
        second = colours[np.where(near, 0, counts).argmax()]
        body.append(np.abs(picture[here] - ground).sum(1).mean())
        ink.append(np.abs(first.astype(float) - second).sum())
    return np.median(body), np.median(ink)


def test_what_is_faint_is_hard_to_see_and_still_to_read():
    plain, faint = contrast(Thing("Ж")), contrast(Thing("Ж", faint=True))
    assert faint[0] < plain[0] / 2
    assert 60 <= faint[1] < plain[1] / 2


def test_what_lies_on_top_is_painted_last():
    picture, shown = scenes.paint([Thing("■")], 64, (40, 40), np.random.default_rng(0))
    inner = ndimage.binary_erosion(shown == 0, iterations=10)
    assert (
        inner.any() and np.ptp(picture[inner], axis=0).max() == 0
    )  # strokes of one colour, the ground hidden


def test_objects_that_do_not_fit_are_refused():
    with pytest.raises(
        UserError, match=r"data\.objects: 9 objects of 60 to 60 pixels do not fit an image of 64"
    ):
        scenes.paint([Thing("■")] * 9, 64, (60, 60), np.random.default_rng(0))
