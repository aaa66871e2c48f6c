import unicodedata
from collections import defaultdict

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font, LoadFlags
from PIL import Image, ImageDraw

from fasa.data import alphabet
from fasa.errors import UserError


def test_pool_is_of_letters_and_symbols_and_large_enough_for_lvis():
    pool = alphabet.pool()
    assert len(pool) >= 1203
    assert {unicodedata.category(c)[0] for c in pool} == {"L", "S"}
    for key in (alphabet.class_name, alphabet.synset):
        assert len({key(c) for c in pool}) == len(pool)


@pytest.mark.parametrize("face", alphabet.FACES)
def test_no_two_classes_have_the_same_outline(face):
    file = FT2Font(alphabet.font(face, 8).path)
    charmap, seen = file.get_charmap(), defaultdict(str)
    for character in alphabet.pool():
        file.load_glyph(charmap[ord(character)], LoadFlags.NO_SCALE)
        vertices, codes = file.get_path()
        assert len(vertices), f"{character} has no ink"
        seen[(vertices - vertices.min(0)).tobytes(), bytes(codes)] += character
    assert [same for same in seen.values() if len(same) > 1] == []


def picture(character, face):
    """An independent drawing: thresholded, cropped, longest side 64."""
    image = Image.new("L", (400, 400))
    ImageDraw.Draw(image).text((100, 100), character, 255, font=alphabet.font(face, 120))
    image = image.crop(image.getbbox())
    size = [max(1, round(64 * n / max(image.size))) for n in image.size]
    canvas = np.zeros((64, 64), bool)
    canvas[: size[1], : size[0]] = np.asarray(image.resize(size)) >= 128
    return canvas


def test_look_alikes_differ_in_every_face():
    families = defaultdict(list)
    for character in alphabet.pool():
        families[alphabet.base(character)].append(character)
    alike = [family[:3] for family in families.values() if len(family) > 2][::4]
    assert len(alike) > 5
    for face in alphabet.FACES:
        for family in alike:
            a, b, c = (picture(character, face) for character in family)
            for x, y in ((a, b), (b, c), (a, c)):
                assert (x & y).sum() < 0.98 * (x | y).sum(), (face, family)


def test_one_of_each_set_of_twins_stays():
    for first, *twins in ("AΑА", "OΟО", "µμ", "ÐĐƉ", "ǝəә"):
        assert first in alphabet.pool()
        assert not {*twins} & {*alphabet.pool()}
    assert {*"bdpqBEFPRβγбжя€♠♥→"} <= {*alphabet.pool()}


@pytest.mark.parametrize(
    ("character", "name", "base", "script"),
    [
        ("a", "latin_small_letter_a", "a", "latin"),
        ("Ǻ", "latin_capital_letter_a_with_ring_above_and_acute", "A", "latin"),
        ("ø", "latin_small_letter_o_with_stroke", "o", "latin"),
        ("Ǿ", "latin_capital_letter_o_with_stroke_and_acute", "O", "latin"),
        ("ᴬ", "modifier_letter_capital_a", "A", "latin"),
        ("ώ", "greek_small_letter_omega_with_tonos", "ω", "greek"),
        ("й", "cyrillic_small_letter_short_i", "и", "cyrillic"),
        ("↯", "downwards_zigzag_arrow", "↯", "common"),
        ("↚", "leftwards_arrow_with_stroke", "←", "common"),
        ("¨", "diaeresis", "¨", "common"),
    ],
)
def test_name_base_and_script(character, name, base, script):
    assert alphabet.class_name(character) == name
    assert alphabet.base(character) == base
    assert alphabet.script(character) == script


def test_synset_holds_the_code_point():
    assert alphabet.synset("a") == "latin_small_letter_a.u.0061"


def test_choice_depends_on_the_seed_alone_and_has_look_alikes():
    chosen = alphabet.choose(60, np.random.default_rng(0))
    assert chosen == alphabet.choose(60, np.random.default_rng(0)) == sorted(chosen)
    assert chosen != alphabet.choose(60, np.random.default_rng(1))
    assert len(set(chosen)) == 60 and all(map(alphabet.familiar, chosen))
    assert len({alphabet.base(c) for c in chosen}) < 55
    assert len({alphabet.script(c) for c in chosen}) >= 4


def test_choice_of_many_takes_the_familiar_first():
    chosen = alphabet.choose(1203, np.random.default_rng(0))
    assert len(set(chosen)) == 1203
    assert {c for c in alphabet.pool() if alphabet.familiar(c)} < set(chosen)


@pytest.mark.parametrize("classes", [0, 5000])
def test_choice_beyond_the_pool_is_refused(classes):
    with pytest.raises(UserError, match=r"data\.classes: is \d+; choose 1 to 1\d\d\d"):
        alphabet.choose(classes, np.random.default_rng(0))
