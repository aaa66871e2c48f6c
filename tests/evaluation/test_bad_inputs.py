"""What a person can get wrong in the files, the command line and the calls: one line that says it."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from worlds import ring, rle, runs, world

from fasa.errors import UserError
from fasa.evaluation import (
    FIXED,
    OLD,
    Detections,
    Matcher,
    Matches,
    evaluate,
    instruments,
    judge,
    match,
    paired_bootstrap,
    read_detections,
    read_ground_truth,
    tide,
)
from fasa.evaluation.__main__ import main

NAN, INF = float("nan"), float("inf")
FUZZ = Path(__file__).with_name("fuzz.py")


@pytest.fixture
def folder(tmp_path):
    """A folder of valid files."""
    for name, document in zip(("gt", "dt"), world(), strict=True):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return tmp_path


def run(folder, capsys, *more):
    """Status and the one line of an error, without its file's folder."""
    status = main(["--gt", str(folder / "gt.json"), "--dt", str(folder / "dt.json"), *map(str, more)])
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == (status == 1) and "Traceback" not in output.err
    assert status == 0 or not output.out
    return status, "".join(errors).replace(f"{folder}{os.sep}", "")


def at(document, *path):
    """A setter of one place in a document."""

    def put(value):
        node = document
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return put


# A file, a path in it, the value put there (DROP: nothing), and a part of the line.
DROP = object()
BOTH = ["--iou", "segm", "bbox"]
ROWS = [
    ("gt", "images 0 id", "x", "images[0].id: Expected `int | float`, got `str`"),
    ("gt", "images 0 id", None, "images[0].id: Expected `int | float`, got `null`"),
    ("gt", "images 0 id", True, "images[0].id: Expected `int | float`, got `bool`"),
    ("gt", "images 0 id", 1.5, "images: entry 0 has id 1.5, not a whole number"),
    ("gt", "images 0 id", NAN, "images: entry 0 has id nan, not a whole number"),
    ("gt", "images 0 id", INF, "images: entry 0 has id inf, not a whole number"),
    ("gt", "images 0 id", 1e300, "images: entry 0 has id 1e+300, not a whole number"),
    ("gt", "images 0 id", 2**63, "images: an id does not fit into 64 bits"),
    ("gt", "images 0 id", 2, "gt.json: image id 2 is there twice"),
    ("gt", "images 0 id", DROP, "images[0]: Object missing required field `id`"),
    ("gt", "images 0", [], "images[0]: Expected `object`, got `array`"),
    ("gt", "images", {}, "images: Expected `array`, got `object`"),
    ("gt", "images", DROP, "Object missing required field `images`"),
    ("gt", "images 0 height", 0, "images[0]: height and width are [0, 40]; they must be from 1 to 65,535"),
    ("gt", "images 1 width", -40, "images[1]: height and width are [40, -40]"),
    ("gt", "images 0 height", 65_536, "images[0]: height and width are [65536, 40]"),
    ("gt", "images 0 height", 10**12, "images[0]: height and width are [1000000000000, 40]"),
    ("gt", "images 0", world()[0]["images"][0] | dict(height=65_535, width=65_535), "2,147,483,647 pixels"),
    ("gt", "images 0 height", 40.5, "images: entry 0 has height 40.5, not a whole number"),
    ("gt", "images 0 height", NAN, "images: entry 0 has height nan"),
    ("gt", "images 0 height", "40", "images[0].height: Expected `int | float`, got `str`"),
    ("gt", "images 0 neg_category_ids", DROP, "images[0]: Object missing required field `neg_category_ids`"),
    ("gt", "images 0 neg_category_ids", 3, "neg_category_ids: Expected `array`, got `int`"),
    (
        "gt",
        "images 0 neg_category_ids",
        [9],
        "neg_category_ids: entry 0 has category id 9, which is not among",
    ),
    ("gt", "images 0 neg_category_ids", [NAN], "neg_category_ids: entry 0 has id nan"),
    (
        "gt",
        "images 0 not_exhaustive_category_ids",
        None,
        "not_exhaustive_category_ids: Expected `array`, got",
    ),
    (
        "gt",
        "images 0 not_exhaustive_category_ids",
        [9],
        "not_exhaustive_category_ids: entry 0 has category id 9",
    ),
    ("gt", "categories 1 id", 1, "gt.json: category id 1 is there twice"),
    ("gt", "categories 1 id", 7, "category id 2, which is not among the annotations' category ids"),
    ("gt", "categories 1 id", [2], "categories[1].id: Expected `int | float`, got `array`"),
    *(
        ("gt", "categories 1 frequency", group, f"categories[1].frequency is {group!r}; it must be r, c or f")
        for group in ("few", "R", "", "x", "rare", "c ", "r\nf")
    ),
    ("gt", "categories 1 frequency", 1, "categories[1].frequency: Expected `str`, got `int`"),
    (
        "gt",
        "categories 1 frequency",
        DROP,
        "categories[1]: Object missing required field `frequency`; r is for",
    ),
    ("gt", "images 0 neg_category_ids", DROP, "every class, as in COCO? say so: --exhaustive"),
    ("dt", "0 segmentation", DROP, "`segmentation`; are these boxes alone? ask for them: --iou bbox"),
    ("dt", "0 bbox", DROP, "`bbox`; are these masks alone? ask for them: --iou segm"),
    ("gt", "annotations 1 image_id", 9, "annotations: entry 1 has image id 9, which is not among"),
    ("gt", "annotations 1 category_id", 9, "annotations: entry 1 has category id 9, which is not among"),
    ("gt", "annotations 1 area", NAN, "annotations[1] has no finite area"),
    ("gt", "annotations 1 area", INF, "annotations[1] has no finite area"),
    ("gt", "annotations 1 area", "81", "annotations[1].area: Expected `float`, got `str`"),
    ("gt", "annotations 1 ignore", "no", "annotations[1].ignore: Expected `bool | int`, got `str`"),
    ("gt", "annotations 0 segmentation", [], "entry 0: segmentation is empty"),
    ("gt", "annotations 0 segmentation", [[]], "entry 0: segmentation has a polygon that is not x, y of 3"),
    (
        "gt",
        "annotations 0 segmentation",
        [[1, 2, 3, 4]],
        "entry 0: segmentation has a polygon that is not x, y of 3",
    ),
    ("gt", "annotations 0 segmentation", [ring(1, 1, 9, 9)[:-1]], "a polygon that is not x, y of 3 points"),
    (
        "gt",
        "annotations 3 segmentation 1 3",
        NAN,
        "entry 3: segmentation has a coordinate that is not finite",
    ),
    (
        "gt",
        "annotations 0 segmentation 0 0",
        INF,
        "entry 0: segmentation has a coordinate that is not finite",
    ),
    (
        "gt",
        "annotations 0 segmentation 0 0",
        -INF,
        "entry 0: segmentation has a coordinate that is not finite",
    ),
    (
        "gt",
        "annotations 0 segmentation 0 2",
        2.1e8,
        "entry 0: segmentation is more than 4 image sizes outside",
    ),
    (
        "gt",
        "annotations 0 segmentation 0 1",
        -1e300,
        "entry 0: segmentation is more than 4 image sizes outside",
    ),
    (
        "gt",
        "annotations 0 segmentation",
        [[0, 0, 200, 0] * 19_999 + [0, 9]],
        "entry 0: segmentation is longer than",
    ),
    (
        "gt",
        "annotations 0 segmentation",
        "box",
        "annotations[0].segmentation: Expected `object | array`, got",
    ),
    ("gt", "annotations 0 segmentation 0 0", "1", "segmentation[0][0]: Expected `float`, got `str`"),
    (
        "gt",
        "annotations 1 segmentation size",
        [41, 40],
        "entry 1: segmentation is of size [41, 40], the image",
    ),
    ("gt", "annotations 1 segmentation counts", "", "entry 1: its mask does not fill its size, [40, 40]"),
    ("gt", "annotations 1 segmentation counts", "é" * 9, "entry 1: its mask does not fill its size"),
    ("gt", "annotations 1 segmentation counts", "o" * 99, "entry 1: its mask does not fill its size"),
    (
        "gt",
        "annotations 2 segmentation counts",
        [1600, -5, 5],
        "entry 2: the runs of segmentation do not fill",
    ),
    (
        "gt",
        "annotations 2 segmentation counts",
        [2**32, 1600],
        "entry 2: the runs of segmentation do not fill",
    ),
    ("gt", "annotations 2 segmentation counts", [1.5], "counts[0]: Expected `int`, got `float`"),
    ("gt", "annotations 0 bbox", [1, 2, 3], "bbox: Expected `array` of length 4"),
    ("gt", "annotations 0 bbox", [1, 2, NAN, 4], "entry 0 has bbox [1.0, 2.0, nan, 4.0]: x, y, w, h must be"),
    ("gt", "annotations 0 bbox", [1, 2, 1e12, 4], "entry 0 has bbox [1.0, 2.0, 1000000000000.0, 4.0]"),
    ("gt", "annotations 0 bbox", DROP, "annotations[0]: Object missing required field `bbox`"),
    ("dt", "0 image_id", 9, "dt.json: entry 0 has image id 9, which is not among"),
    ("dt", "0 image_id", 1.5, "dt.json: entry 0 has image_id 1.5, not a whole number"),
    ("dt", "0 image_id", "1", "[0].image_id: Expected `int | float`, got `str`"),
    ("dt", "0 image_id", 10**20, "dt.json: an id does not fit into 64 bits"),
    ("dt", "1 category_id", 99, "dt.json: entry 1 has category id 99, which is not among"),
    ("dt", "1 category_id", NAN, "dt.json: entry 1 has category_id nan, not a whole number"),
    ("dt", "1 category_id", DROP, "[1]: Object missing required field `category_id`"),
    ("dt", "2 score", NAN, "dt.json: entry 2 has score nan; did the training diverge?"),
    ("dt", "2 score", INF, "dt.json: entry 2 has score inf"),
    ("dt", "2 score", "0.5", "[2].score: Expected `float`, got `str`"),
    ("dt", "2 score", DROP, "[2]: Object missing required field `score`"),
    ("dt", "0 bbox", [1, 2, 3, INF], "dt.json: entry 0 has bbox [1.0, 2.0, 3.0, inf]"),
    ("dt", "0 bbox", [1, 2, 3], "[0].bbox: Expected `array` of length 4"),
    ("dt", "0 bbox", {"x": 1}, "[0].bbox: Expected `array`, got `object`"),
    ("dt", "0 segmentation", [ring(1, 1, 9, 9)], "entry 0: segmentation is a list, like polygons of"),
    ("dt", "0 segmentation size", [40, 41], "dt.json: entry 0: segmentation is of size [40, 41], the image"),
    ("dt", "0 segmentation size", [40], "[0].segmentation.size: Expected `array` of length 2"),
    (
        "dt",
        "0 segmentation counts",
        rle(1, 1, 9, 9)["counts"][:-1],
        "entry 0: its mask does not fill its size",
    ),
    ("dt", "0 segmentation counts", "PoS1\x00PoS1", "entry 0: its mask does not fill its size"),
    ("dt", "2 segmentation counts", "", "dt.json: entry 2: its mask does not fill its size"),
    ("dt", "0", None, "[0]: Expected `object`, got `null`"),
]


@pytest.mark.parametrize(("name", "path", "value", "line"), ROWS)
def test_a_wrong_value_in_a_file_is_said_in_a_line(name, path, value, line, folder, capsys):
    document = dict(zip(("gt", "dt"), world(), strict=True))[name]
    path = [int(key) if key.isdigit() else key for key in path.split()]
    if value is DROP:
        node = document
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]
    else:
        at(document, *path)(value)
    (folder / f"{name}.json").write_text(json.dumps(document))
    status, said = run(folder, capsys, *BOTH, "--tide", "stock", "--out", folder / "out.json")
    assert status == 1 and f"error: {name}.json: " in said and line in said
    assert not (folder / "out.json").exists()


TEXTS = [
    (lambda text: text[:-9], "not JSON, or cut short"),
    (lambda text: b"", "not JSON, or cut short"),
    (lambda text: text.replace(b'"counts": "', b'"counts": "\xe9'), "not text in UTF-8"),
    (lambda text: text.decode().encode("utf-16"), "is text in UTF-16"),
    (lambda text: gzip.compress(text)[:-20], "is compressed by gzip and damaged"),
    (lambda text: gzip.compress(b" " * (80 << 20)), "unpacks to over 67,108,864 bytes"),
    (lambda text: b'[{"x":' + b"[" * 100_000, "nested too deeply"),
    (lambda text: b"[NaN" + b"[" * 100_000, "not JSON, or cut short"),
    (lambda text: text.replace(b"0.9", b"1e999"), "Number out of range"),
    (lambda text: text + text, "not JSON, or cut short"),
    (lambda text: b"\x00" * 99, "not JSON, or cut short"),
    (lambda text: text.replace(b"0.9", b"NaN").replace(b'"image_id"', b'"\\ud800"', 1), "not Unicode"),
    (lambda text: b"{}", "Expected `array`, got `object`"),
    (lambda text: b"[1]", "[0]: Expected `object`, got `int`"),
    (lambda text: b"null", "Expected `array`, got `null`"),
]


def test_the_place_of_a_damage_is_that_in_the_file(folder, capsys):
    """Though the core takes the annotations out before the rest is read."""
    path = folder / "gt.json"
    text = path.read_bytes().rstrip()
    assert text.find(b'"annotations"') < len(text) - 9
    path.write_bytes(text[:-1] + b"!" + text[-1:])
    status, said = run(folder, capsys)
    assert status == 1 and f"byte {len(text) - 1}" in said


@pytest.mark.parametrize(("change", "line"), TEXTS)
def test_a_file_of_another_make_is_said_in_a_line(change, line, folder, capsys):
    path = folder / "dt.json"
    path.write_bytes(change(path.read_bytes()))
    status, said = run(folder, capsys)
    assert status == 1 and "error: dt.json: " in said and line in said


@pytest.mark.parametrize(
    "change",
    [gzip.compress, lambda text: b"\xef\xbb\xbf" + text, lambda text: gzip.compress(b"\xef\xbb\xbf" + text)],
)
def test_gzip_and_a_byte_order_mark_are_taken(change, folder, capsys):
    assert run(folder, capsys, "--out", folder / "plain.json") == (0, "")
    for name in ("gt.json", "dt.json"):
        (folder / name).write_bytes(change((folder / name).read_bytes()))
    assert run(folder, capsys, "--out", folder / "packed.json") == (0, "")
    assert (folder / "plain.json").read_bytes() == (folder / "packed.json").read_bytes()


def test_ids_with_a_decimal_point_are_taken(folder, capsys):
    assert run(folder, capsys, "--out", folder / "plain.json") == (0, "")
    for name in ("gt.json", "dt.json"):
        text = (folder / name).read_text()
        for field in ("image_id", "category_id", "height"):
            text = text.replace(f'"{field}": 1', f'"{field}": 1.0').replace(
                f'"{field}": 40', f'"{field}": 40.0'
            )
        assert ".0" in text
        (folder / name).write_text(text)
    assert run(folder, capsys, "--out", folder / "pointed.json") == (0, "")
    assert (folder / "plain.json").read_bytes() == (folder / "pointed.json").read_bytes()


@pytest.mark.parametrize(
    ("option", "path", "line"),
    [
        ("--gt", "gone.json", "gone.json: No such file or directory"),
        ("--dt", "gone.json", "gone.json: No such file or directory"),
        ("--gt", ".", "is not a regular file"),
        ("--dt", "/dev/zero", "/dev/zero: is not a regular file"),
        ("--dt", "pipe", "pipe: is not a regular file"),
        ("--dt", "gt.json/dt.json", "Not a directory"),
        ("--dt", "x" * 300, "File name too long"),
        ("--dt", "two\nlines", "'two\\nlines': No such file"),
        ("--dt", "", "No such file"),
        ("--out", "/dev/null", "--out /dev/null: is not a regular file"),
        ("--out", ".", "is not a regular file, but a folder"),
        ("--out", "pipe", "pipe: is not a regular file"),
        ("--out", "gone/out.json", "there is no folder gone"),
        ("--out", "gt.json/out.json", "there is no folder gt.json"),
        ("--out", "dt.json", "is an input and would be lost"),
        ("--out", "link", "is an input and would be lost"),
        ("--out", "x" * 300, "File name too long"),
        ("--out", "x" * 250, "File name too long; choose a shorter name"),  # with what is put beside it
        ("--against", "gone.json", "gone.json: No such file or directory"),
    ],
)
def test_a_path_that_will_not_do_is_said_in_a_line(option, path, line, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    os.mkfifo("pipe")
    os.symlink("gt.json", "link")
    before = {name: os.lstat(name) for name in sorted(os.listdir())}
    status, said = run(folder, capsys, option, path)
    assert status == 1 and line in said
    assert {name: os.lstat(name) for name in sorted(os.listdir())}.keys() == before.keys()
    assert os.path.exists("/dev/null") and not os.path.isfile("/dev/null")


def test_a_full_disk_is_said_in_a_line(folder):
    """/dev/full is one, for standard output; nothing follows when Python closes it."""
    command = [
        sys.executable,
        "-m",
        "fasa.evaluation",
        "--gt",
        folder / "gt.json",
        "--dt",
        folder / "dt.json",
    ]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: a file or standard output: No space left on device; free some space")


def test_what_was_measured_is_shown_though_it_cannot_be_written(folder, capsys):
    """/proc takes no file, which is noticed when one is written only."""
    files = "--gt", str(folder / "gt.json"), "--dt", str(folder / "dt.json")
    assert main([*files, "--out", "/proc/out.json"]) == 1
    out, err = capsys.readouterr()
    assert "APr    85.15" in out and err.splitlines()[-1].startswith("error: /proc")


@pytest.mark.parametrize("value", [None, 0.0, 1.0, False])
def test_a_crowd_written_in_any_way_is_taken_by_every_reader(value, monkeypatch):
    """Plain LVIS does not read it, --exhaustive does."""
    gt, dt = world()
    for thing in gt["annotations"]:
        thing["iscrowd"] = value
    expected = evaluate(*world()).summary
    assert evaluate(gt, dt).summary == pytest.approx(expected, nan_ok=True)
    assert read_ground_truth(gt, "bbox", exhaustive=True).ignore.tolist() == [bool(value)] * 4


@pytest.mark.parametrize(
    ("count", "line"),
    [(NAN, "entry 0 has image_count nan, not a whole"), (-5, "entry 0 has image_count -5; it must be 0")],
)
def test_a_count_of_images_that_is_none_is_refused(count, line):
    gt, _ = world()
    gt["categories"][0] |= dict(frequency=None, image_count=count)
    with pytest.raises(UserError, match=line):
        read_ground_truth(gt, "bbox", exhaustive=True)


def test_lengths_that_overflow_are_refused(tmp_path):
    """Their sum is right again."""
    length = np.array([2**63 - 1, 2**63 - 1, 2])
    columns = dict(image_id=[1, 1, 1], category_id=[1, 1, 1], score=[0.5, 0.4, 0.3])
    np.savez(tmp_path / "over.npz", **columns, counts=np.zeros(0, np.uint8), length=length)
    with pytest.raises(UserError, match="counts and length do not fit each other"):
        read_detections(tmp_path / "over.npz", MASKS)


def test_an_error_while_matching_stands_on_a_line_of_its_own(folder, capsys, monkeypatch):
    """Also where a bar is shown."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("fasa.evaluation.matches.overlaps", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(folder, capsys, "--iou", "bbox")
    err = capsys.readouterr().err
    assert "match" in err and err.endswith("\n")


ids, scores, boxes = np.array([1, 2]), np.array([0.5, 0.4]), np.array([[1.0, 2, 3, 4]] * 2)
GT = read_ground_truth(world()[0], "bbox")
MASKS = read_ground_truth(world()[0], "segm")


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: evaluate(*world(), protocol="fixed"), "'fixed' is no Protocol; take fasa.evaluation.OLD"),
        (lambda: evaluate(*world(), protocol=None), "None is no Protocol"),
        (
            lambda: evaluate(*world(), protocol=FIXED._replace(per_class="9")),
            "a cap is a whole number from 0",
        ),
        (lambda: evaluate(*world(), protocol=OLD._replace(per_image=-1)), "a cap is a whole number from 0"),
        (lambda: evaluate(*world(), iou_type="mask"), "iou_type 'mask' is unknown"),
        (lambda: evaluate(*world(), iou_type=["segm"]), "iou_type ['segm'] is unknown"),
        (lambda: evaluate(None, []), "ground truth: Expected `object`, got `null`"),
        (lambda: evaluate(5, []), "ground truth: Expected `object`, got `int`"),
        (lambda: evaluate(world()[0], None), "detections: Expected `array`, got `null`"),
        (lambda: evaluate(world()[0], "\0"), "embedded null byte"),
        (lambda: evaluate(world()[0], object()), "detections: Expected `array`, got `object`"),
        (lambda: match(*world(), protocols="old"), "protocols are 'old', not a list"),
        (lambda: match(*world(), protocols=None), "protocols are None, not a list"),
        (lambda: instruments(*world(), protocols=["old"]), "'old' is no Protocol"),
        (
            lambda: instruments(*world(), with_tide="Stock"),
            "with_tide is 'Stock'; choose 'lvis', 'stock' or None",
        ),
        (lambda: judge(None), "judge takes Matches, not NoneType"),
        (lambda: judge(match(*world()), "pool"), "'pool' is no Protocol"),
        (lambda: tide(*world(), iou_type=None), "iou_type None is unknown"),
        (lambda: paired_bootstrap([None], [None]), "the bootstrap takes Matches"),
        (lambda: paired_bootstrap([], []), "at least one run of each row"),
        (lambda: paired_bootstrap(*[[match(*world())]] * 2, n_resamples=0), "n_resamples is 0"),
        (lambda: paired_bootstrap(*[[match(*world())]] * 2, seed=-1), "seed is -1"),
        (lambda: Matches.load(5), "cannot read matches"),
        (
            lambda: evaluate(GT, Detections(None, ids, scores, boxes), iou_type="bbox"),
            "image_id is of shape ()",
        ),
        (
            lambda: evaluate(GT, Detections(ids * 1.0, ids, scores, boxes), iou_type="bbox"),
            "an array of float64, not of",
        ),
        (
            lambda: evaluate(GT, Detections(ids, ["a", "b"], scores, boxes), iou_type="bbox"),
            "category_id is an array of <U1",
        ),
        (
            lambda: evaluate(GT, Detections(ids, ids + 7, scores, boxes), iou_type="bbox"),
            "entry 0 has category id 8",
        ),
        (
            lambda: evaluate(GT, Detections(ids, ids, ["a", "b"], boxes), iou_type="bbox"),
            "score is an array of <U1",
        ),
        (
            lambda: evaluate(GT, Detections(ids, ids, scores * NAN, boxes), iou_type="bbox"),
            "entry 0 has score nan",
        ),
        (lambda: evaluate(GT, Detections(ids, ids, scores[:1], boxes), iou_type="bbox"), "differ in length"),
        (
            lambda: evaluate(GT, Detections(ids, ids, scores, boxes[:, :3]), iou_type="bbox"),
            "shape must be boxes, an array (N, 4) of x, y, w, h; it is (2, 3)",
        ),
        (
            lambda: evaluate(GT, Detections(ids, ids, scores, boxes.T), iou_type="bbox"),
            "shape must be boxes, an array (N, 4) of x, y, w, h; it is (4, 2)",
        ),
        (
            lambda: evaluate(GT, Detections(ids, ids, scores, boxes.astype(str)), iou_type="bbox"),
            "x, y, w, h; it is an array of <U",
        ),
        (lambda: evaluate(GT, {"annotations": []}, iou_type="bbox"), "results are a list of detections"),
        (lambda: evaluate([], [], iou_type="bbox"), "annotations are an object with images, categories"),
        (lambda: evaluate(GT, Detections(ids, ids, scores, None), iou_type="bbox"), "shape must be boxes"),
        (
            lambda: evaluate(GT, Detections(ids, ids, scores, boxes * INF), iou_type="bbox"),
            "x, y, w, h must be finite",
        ),
        (lambda: evaluate(MASKS, Detections(ids, ids, scores, boxes)), "a list of bytes"),
        (lambda: evaluate(MASKS, Detections(ids, ids, scores, ["", ""])), "a list of bytes"),
        (
            lambda: evaluate(MASKS, Detections(ids[:1], ids[:1], scores[:1], [b"5"])),
            "entry 0: its mask does not fill",
        ),
        (lambda: Matcher(MASKS).add(Detections(ids, ids, scores, None)), "a list of bytes"),
        (lambda: Matcher(MASKS, ["old"]), "'old' is no Protocol"),
        (
            lambda: read_detections(world()[1], GT._replace(image_ids=np.array([7, 8, 9]))),
            "entry 0 has image id 1",
        ),
        (lambda: read_ground_truth(GT, "segm"), "ground truth was read for 'bbox'; read it for 'segm'"),
    ],
)
def test_a_wrong_call_is_said_in_a_line(call, line):
    with pytest.raises(UserError) as error:
        call()
    assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["label", "image", "object_class", "object_image"])
def test_matches_that_do_not_fit_together_are_refused(name, tmp_path):
    arrays = vars(match(*world()))
    column = arrays[name]
    for spoilt in (column[:-1], column.astype("S9"), column + 99, column - 99):
        np.savez(tmp_path / "matches.npz", **arrays | {name: spoilt})
        with pytest.raises(UserError, match=r"matches\.npz: cannot read matches"):
            Matches.load(tmp_path / "matches.npz")


def test_the_valid_world_is_valid_and_its_three_kinds_of_masks_are_alike(folder, capsys):
    assert run(folder, capsys, *BOTH, "--tide", "--protocol", "old", "fixed", "pool") == (0, "")
    box = (3, 4, 9, 7)
    shapes = [[ring(*box)], rle(*box), runs(*box)]
    areas = []
    for shape in shapes:
        gt, dt = world()
        gt["annotations"][0]["segmentation"] = shape
        dt[0]["segmentation"] = rle(*box)
        areas.append(match(gt, dt).matched[:, 0].tolist())
    assert areas[0] == areas[1] == areas[2] and max(areas[0]) == 1023


@pytest.mark.parametrize("core", ["on", "off"])
def test_random_spoilt_files_end_with_a_result_or_a_line(core):
    """In a process of bounded memory; `python tests/evaluation/fuzz.py --cases 20000` looks for minutes."""
    done = subprocess.run(
        [sys.executable, FUZZ, "--cases", "200"],
        env=os.environ | dict(FASA_CORE=core),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
