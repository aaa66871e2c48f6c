"""The contract that every kind of data keeps."""

import subprocess
import sys
from importlib import import_module

import pytest

from fasa.data import source
from fasa.data.kinds import CLASSIFICATION, DETECTION, find
from fasa.data.prepared import OWN, PARTS
from fasa.errors import UserError
from fasa.sections import Section

KINDS = [
    (kind, module, function)
    for kinds, function in ((DETECTION, "prepare"), (CLASSIFICATION, "load"))
    for kind, module in kinds.items()
]


@pytest.mark.parametrize(("kind", "module", "function"), KINDS)
def test_a_kind_has_settings_of_its_name_and_one_function(kind, module, function):
    module = import_module(module)
    assert issubclass(module.Settings, Section) and callable(getattr(module, function))
    assert (
        module.Settings.__struct_config__.tag_field == "kind"
        and module.Settings.__struct_config__.tag == kind
    )
    assert module.Settings.__struct_config__.forbid_unknown_fields


def test_a_section_is_read_by_its_kind():
    module, settings = find(CLASSIFICATION, dict(kind="digits", ratio=7), "any.data")
    assert module is import_module("fasa.data.digits_lt")
    assert settings == module.Settings(ratio=7.0)


@pytest.mark.parametrize(
    "section", [None, 3, [], "glyphs", {}, dict(kind=None), dict(kind=["a"]), dict(kind="no")]
)
def test_a_section_without_a_known_kind_is_refused(section):
    with pytest.raises(
        UserError, match=r"^params\.yaml: any\.data\.kind is .*; known: glyphs, coco, lvis_v1$"
    ):
        find(DETECTION, section, "any.data")


def test_a_stage_imports_its_own_kind_only():
    code = """if True:
        import sys
        from fasa.data.kinds import CLASSIFICATION, find
        find(CLASSIFICATION, dict(kind="cifar100"), "data")
        print(*sorted(name for name in sys.modules if name.startswith("fasa.data.")))
    """
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["fasa.data.cifar_lt", "fasa.data.fetching", "fasa.data.images", "fasa.data.kinds"]


def test_the_prepared_folder(tiny_glyphs):
    assert {path.name for path in tiny_glyphs.iterdir()} <= OWN
    assert {path.name for path in (tiny_glyphs / "annotations").iterdir()} == {
        f"{part}.{kind}" for part in PARTS for kind in ("json", "lines", "npz")
    }
    found = source(tiny_glyphs)
    assert (found.kind, found.images, found.iou_types, found.leaky, found.parts) == (
        "glyphs",
        str(tiny_glyphs),
        ["segm", "bbox"],
        False,
        PARTS,
    )


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"source\.json: does not describe a prepared data set \(No such file"
    ):
        source(tmp_path)
