import pytest

from fasa.report import tables
from fasa.report.summary import summarise


def value(mean, std=0.25, n=3):
    return dict(mean=mean, std=std, n=n)


SUMMARY = {
    "mask_rcnn": {f"segm_{m}": value(i) for i, m in enumerate(["AP", "APr", "APc", "APf"])},
    "mask_rcnn_fasa": {
        f"segm_{m}": value(10 + i, None, 1) for i, m in enumerate(["AP", "APr", "APc", "APf"])
    },
}


def test_main_table_holds_ours_and_the_papers():
    header, rule, plain, fasa = tables.appendix("main", SUMMARY).splitlines()
    assert [text.strip() for text in header.split("|")[1:-1]] == [
        "row",
        "mask AP",
        "mask APr",
        "mask APc",
        "mask APf",
        "n",
    ]
    assert "1.0 ± 0.2 (1.2)" in plain and plain.rstrip().endswith("3 |")
    assert "11.0 (10.2)" in fasa and "±" not in fasa
    assert len({len(line) for line in (header, rule, plain, fasa)}) == 1  # aligned


def test_rows_that_were_not_run_say_so():
    row = tables.appendix("main", {"mask_rcnn": SUMMARY["mask_rcnn"]}).splitlines()[-1]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["`mask_rcnn_fasa`", "not run (22.6)", "- (10.2)", "- (21.6)", "- (29.2)", "0"]


def test_other_columns_have_no_number_of_the_paper():
    assert "(" not in tables.appendix("main", SUMMARY, ["segm_APr"])


def test_differences_by_hand():
    text = tables.differences({"bbox_APr": (1.25, -0.5, 3.0, 0.08)})
    assert "| box APr | +1.2       | [-0.5, +3.0] | 8% " in text


def test_paper_numbers_are_those_of_table_8():
    paper = tables.definition("main")["paper"]
    assert paper == dict(mask_rcnn=[19.3, 1.2, 17.4, 29.3], mask_rcnn_fasa=[22.6, 10.2, 21.6, 29.2])


def test_paper_numbers_are_those_of_table_1():
    table = tables.definition("table1")
    assert [column.rpartition("_")[2] for column in table["columns"]] == [
        "Cls",
        "Loc",
        "Both",
        "Dupe",
        "Bkg",
        "Miss",
    ]
    assert table["paper"] == dict(
        mask_rcnn=[25.10, 6.71, 0.59, 0.36, 3.17, 7.15], mask_rcnn_fasa=[20.74, 6.80, 0.50, 0.41, 3.48, 7.29]
    )


def test_a_section_has_title_table_and_says_what_is_in_brackets():
    summary = {"mask_rcnn": {f"segm_pool_{m}": value(5.0) for m in ("AP", "APr", "APc", "APf")}}
    title, _, note, _, header, _, row, *others = tables.section("table6_pool", summary).splitlines()
    assert title.startswith("## Table 6: AP_Pool") and "brackets" in note
    assert all("not run" in other for other in others) and len(others) == 5
    assert "mask pool APr" in header and "5.0 ± 0.2" in row
    assert "brackets" not in tables.section("augmentations", SUMMARY)


def test_gains_stand_beside_the_rows_that_are_compared():
    found = {
        "mask_rcnn_rfs": {s: {f"segm_{m}": 10.0 + s for m in ("AP", "APr", "APc", "APf")} for s in (0, 1)},
        "mask_rcnn_rfs_fasa": {0: dict(segm_AP=10.5, segm_APr=8.0, segm_APc=1.0, segm_APf=1.0)},
    }
    text = tables.section("table2", summarise(found), found)
    header, _, base, missing, row = text.splitlines()[-5:]
    assert "not run (23.2)" in missing
    assert "gain in mask AP " in header and "gain in mask APr" in header and "both rows have" in text
    assert [cell.strip() for cell in base.split("|")[-4:-1]] == ["-", "-", "-"]
    assert [cell.strip() for cell in row.split("|")[-4:-1]] == ["+0.5", "-2.0", "`mask_rcnn_rfs`"]


@pytest.mark.parametrize(
    "name", ["table2", "table8", "augmentations", "combinations", "table6_fixed", "table6_pool"]
)
def test_rows_are_compared_to_rows_of_their_table(name):
    table = tables.definition(name)
    assert table["against"].keys() | set(table["against"].values()) <= set(table["rows"])


def test_columns_are_named_as_readers_know_them():
    names = ["segm_APr", "bbox_fixed_AP", "segm_tide_Cls", "virtual_per_iteration", "accuracy"]
    expected = ["mask APr", "box fixed AP", "Cls", "virtual per iteration", "accuracy"]
    assert [tables.column_name(name) for name in names] == expected
