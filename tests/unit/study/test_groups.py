"""Groups of runs in one step."""

import pytest

from playscale.study.groups import for_each, grouped, members


def test_groups_have_runs_of_all_sizes():
    runs = list("abcdefg")
    assert grouped(runs, 3) == ["a,d,g", "b,e", "c,f"]
    assert grouped(runs, 1) == runs
    assert grouped([], 8) == []
    assert members("a,d,g") == ("a", "d", "g")
    assert (members("a"), members("")) == (("a",), ())


def test_a_run_that_fails_keeps_no_other_from_its_turn(tmp_path):
    worked = []

    def work(run):
        worked.append(run)
        if run != "b":
            raise (ValueError("no corpus") if run == "a" else ZeroDivisionError)

    with pytest.raises(RuntimeError, match="^train: 2 of 3 runs failed: a: no corpus; c: ZeroDivisionError$"):
        for_each("abc", "train", str(tmp_path), work)
    assert worked == ["a", "b", "c"]
    assert not list(tmp_path.rglob("*.begun"))


def test_runs_that_killed_an_earlier_try_come_last(tmp_path):
    worked = []

    def work(run):
        worked.append(run)
        if run in killers:
            raise SystemExit  # as far as the marks can tell, a kill

    killers = "ac"
    for _ in range(3):
        with pytest.raises(SystemExit):
            for_each("abcd", "train", str(tmp_path), work)
    assert worked == ["a", "b", "c", "b", "d", "a"]
    killers = ""
    for_each("abcd", "train", str(tmp_path), worked.append)
    assert worked[6:] == ["b", "d", "a", "c"]
    assert not list(tmp_path.rglob("*.begun"))


def test_marks_of_one_step_are_not_those_of_another(tmp_path):
    def killed(run):
        raise SystemExit

    with pytest.raises(SystemExit):
        for_each("ab", "evaluate", str(tmp_path), killed)
    worked = []
    for_each("ab", "train", str(tmp_path), worked.append)
    assert worked == ["a", "b"]
