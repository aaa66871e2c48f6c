import pytest

from fasa.report import tables
from fasa.report.summary import gains


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
        "",
        "mask AP",
        "mask APr",
        "mask APc",
        "mask APf",
        "n",
    ]
    assert "1.0 ± 0.2 (1.2)" in plain and plain.startswith("| Mask R-CNN<br>`mask_rcnn` ")
    assert "11.0 (10.2)" in fasa and "±" not in fasa
    assert len({len(line) for line in (header, rule, plain, fasa)}) == 1  # aligned


def test_rows_that_were_not_run_say_so():
    row = tables.appendix("main", {"mask_rcnn": SUMMARY["mask_rcnn"]}).splitlines()[-1]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    paper = ["not run (22.6)", "- (10.2)", "- (21.6)", "- (29.2)"]
    assert cells == ["Mask R-CNN + FASA<br>`mask_rcnn_fasa`", *paper, "0"]


def test_other_columns_have_no_number_of_the_paper():
    assert "(" not in tables.appendix("main", SUMMARY, ["segm_APr"])


def test_differences_by_hand():
    text = tables.differences({"bbox_APr": (1.25, -0.5, 3.0, 0.08)})
    assert "| box APr | +1.2       | [-0.5, +3.0] | 8.0% " in text


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
        "FalsePos",
        "FalseNeg",
    ]
    assert table["paper"] == dict(
        mask_rcnn=[25.10, 6.71, 0.59, 0.36, 3.17, 7.15, None, None],
        mask_rcnn_fasa=[20.74, 6.80, 0.50, 0.41, 3.48, 7.29, None, None],
    )


SCALE = tables.Scale("`small`, 6 classes", "fasa run 'evaluate@small-ROW-*'")


def test_a_section_says_what_its_numbers_are():
    found = {"mask_rcnn": {0: {f"segm_pool_{m}": 5.0 for m in ("AP", "APr", "APc", "APf")}}}
    table, read, source = tables.section("table6_pool", found, SCALE).split("\n\n")
    header, _, row, *others = table.splitlines()
    assert all("not run" in other for other in others) and len(others) == 5
    assert "mask pool APr" in header and "| 5.0 " in row and "nothing to compare yet" in read
    assert source.startswith("Ours: `small`, 6 classes. ") and "LVIS v1: 1,203 classes" in source
    assert source.endswith(" A row: `fasa run 'evaluate@small-ROW-*'`.")
    assert "brackets" not in tables.section("augmentations", {}, SCALE)


def test_gains_stand_beside_the_rows_that_are_compared():
    found = {
        "mask_rcnn_rfs": {s: {f"segm_{m}": 10.0 + s for m in ("AP", "APr", "APc", "APf")} for s in (0, 1)},
        "mask_rcnn_rfs_fasa": {0: dict(segm_AP=10.5, segm_APr=8.0, segm_APc=1.0, segm_APf=1.0)},
    }
    table, read, _ = tables.section("table2", found, SCALE).split("\n\n")
    header, _, base, missing, row = table.splitlines()
    assert "not run (23.2)" in missing
    assert "gain, mask AP " in header and "gain, mask APr" in header
    assert [cell.strip() for cell in base.split("|")[-4:-1]] == ["-", "-", "-"]
    assert [cell.strip() for cell in row.split("|")[-4:-1]] == ["+0.5", "-2.0", "Mask R-CNN + RFS"]
    over = "Mask R-CNN + RFS + FASA has +0.5 mask AP and -2.0 mask APr over Mask R-CNN + RFS (1 seed)"
    assert read == f"**Read:** {over}."


def test_of_many_comparisons_the_best_and_the_worst_are_told():
    rows = tables.definition("augmentations")["rows"]
    found = {row: {0: dict(segm_AP=1.0, segm_APr=float(i))} for i, row in enumerate(rows)}
    found["mask_rcnn_smote"] = {0: dict(segm_AP=1.0, segm_APr=-3.0)}
    read = tables.reading("augmentations", gains(found, tables.definition("augmentations")["against"]))
    best = "of 10 comparisons the best by mask APr: Mask R-CNN + FASA has 0.0 mask AP and +10.0 mask APr"
    assert best in read and "; the worst: Mask R-CNN + SMOTE has 0.0 mask AP and -3.0 mask APr" in read


def test_a_few_comparisons_are_told_each():
    found = {
        row: {0: dict(segm_AP=i, segm_APr=i)} for i, row in enumerate(tables.definition("table8")["rows"])
    }
    lines = tables.reading("table8", gains(found, tables.definition("table8")["against"])).splitlines()
    assert lines[0] == "**Read:**" and len(lines) == 5
    assert (
        lines[3]
        == "- Mask R-CNN + NMS re-sampling has +2.0 mask AP and +2.0 mask APr over Mask R-CNN (1 seed)"
    )


def test_the_costliest_error_of_each_row_is_told():
    found = {
        "mask_rcnn": {
            0: dict(segm_tide_Cls=3.0, segm_tide_Loc=4.0),
            1: dict(segm_tide_Cls=6.0, segm_tide_Loc=4.0),
        }
    }
    text = tables.section("table1", found, SCALE)
    assert "**Read:** Mask R-CNN loses most AP50 by Cls, 4.5 points." in text and "gain, " not in text
    assert "nothing measured yet" in tables.section("table1", {}, SCALE)
    found["mask_rcnn_fasa"] = {1: dict(segm_tide_Cls=4.0, segm_tide_Loc=4.5, segm_tide_FalseNeg=9.0)}
    text = tables.section("table1", found, SCALE)
    assert "by Loc, 4.5 points (of all types Cls falls most, -2.0, and Loc rises most, +0.5)." in text


def test_rows_in_words():
    expected = dict(
        mask_rcnn_rfs_fasa_uniform="Mask R-CNN + RFS + FASA, drawn uniformly",
        mask_rcnn_angular_m05="Mask R-CNN + angular transfer (Liu), margin 0.05",
        cascade_rcnn_rfs="Cascade R-CNN + RFS",
        ce_fasa_class="cross-entropy + FASA, class by class",
        mask_rcnn_mixup="Mask R-CNN + mixup",
        my_net="my + net",
    )
    assert {row: tables.words(row) for row in expected} == expected


@pytest.mark.parametrize(
    "name", [name for name, table in tables.appendix_yaml().items() if "against" in table]
)
def test_rows_are_compared_to_rows_of_their_table(name):
    table = tables.definition(name)
    assert table["against"].keys() | set(table["against"].values()) <= {
        *table["rows"],
        *table.get("if_run", []),
    }


def test_columns_are_named_as_readers_know_them():
    names = ["segm_APr", "bbox_fixed_AP", "segm_tide_Cls", "virtual_per_iteration", "accuracy"]
    expected = ["mask APr", "box fixed AP", "Cls", "virtual samples an iteration", "accuracy"]
    assert [tables.column_name(name) for name in names] == expected
