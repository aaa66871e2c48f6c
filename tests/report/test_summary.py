import pytest

from fasa.errors import UserError
from fasa.record import Record
from fasa.report.summary import (
    comparable,
    gains,
    machines,
    metrics,
    read_census,
    read_records,
    summarise,
)


def write(results, row, seed, **values):
    Record(values, 0, {}, {}).save(results / "runs" / f"{row}-{seed}.npz")


def test_mean_and_sample_deviation_by_hand():
    runs = dict(a={s: dict(segm_AP=x) for s, x in enumerate((1.0, 2.0, 6.0))}, b={1: dict(segm_AP=5.0)})
    assert summarise(runs) == {
        "a": {"segm_AP": dict(mean=3.0, std=7**0.5, n=3, each=[1.0, 2.0, 6.0])},
        "b": {"segm_AP": dict(mean=5.0, std=None, n=1, each=[5.0])},
    }
    some = summarise(dict(a={0: dict(segm_AP=1.0, cam_some_8=2.0), 1: dict(segm_AP=3.0)}))
    assert some["a"].keys() == {"segm_AP"}  # which every seed has


def test_rows_that_were_evaluated_are_found(tmp_path):
    for seed in (0, 2):
        write(tmp_path, "a", seed, segm_AP=float(seed))
    write(tmp_path, "c", 0, segm_AP=5.0)
    found = metrics(read_records(tmp_path, ["a", "b"], [0, 1, 2]))
    assert found == {"a": {0: dict(segm_AP=0.0), 2: dict(segm_AP=2.0)}}
    assert metrics(read_records(tmp_path, ["a", "c"], [0]))["c"] == {0: dict(segm_AP=5.0)}
    assert read_records(tmp_path, ["b"], [0]) == {} and comparable({}) == ({}, [])


def test_a_census_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"data\.json is not here yet: .* fasa run --here 'data@\*'$"):
        read_census(tmp_path)


def test_runs_of_other_images_are_set_aside_and_machines_named():
    first, other = Record({}, 1, {}, {}, machine="A"), Record({}, 2, {}, {})
    records = dict(a={0: first, 1: other}, b={0: other}, c={2: first})
    assert comparable(records) == (dict(a={0: first}, c={2: first}), ["a-1", "b-0"])
    assert list(machines(records).values()) == [["a-0", "c-2"], ["a-1", "b-0"]] and "A" in machines(records)


def test_gains_are_over_the_seeds_that_both_rows_have():
    found = dict(
        plain={0: dict(segm_AP=10.0), 1: dict(segm_AP=20.0), 2: dict(segm_AP=90.0)},
        one={0: dict(segm_AP=11.0, drawn=3.0)},
        two={1: dict(segm_AP=18.0), 2: dict(segm_AP=92.0)},
        other={7: dict(segm_AP=1.0)},
    )
    against = dict(one="plain", two="plain", other="plain", missing="plain", plain="missing")
    assert gains(found, against) == dict(
        one=dict(segm_AP=dict(mean=1.0, std=None, n=1, each=[1.0])),
        two=dict(segm_AP=dict(mean=0.0, std=8**0.5, n=2, each=[-2.0, 2.0])),
    )
