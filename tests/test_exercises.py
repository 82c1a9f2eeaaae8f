"""Checks below exercises: one line for each way an answer may stand."""

import pytest

from labor_lib.lab.exercises import check, require


def open_one():
    raise NotImplementedError


def wrong():
    assert 1 == 2, "one is\nnot two"


def test_check_never_raises(capsys):
    check(1, open_one)
    check(2, wrong)
    check(3, lambda: {}["missing"])
    check(4, lambda: None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Exercise 1 is open")
    assert lines[1].startswith("Exercise 2, not yet (AssertionError): one is not two")
    assert lines[2].startswith("Exercise 3, not yet (KeyError): 'missing'")
    assert lines[3:] == ["Exercise 4: right."]


def test_require_raises(capsys):
    with pytest.raises(NotImplementedError):
        require(1, open_one)
    with pytest.raises(AssertionError, match="one is"):
        require(2, wrong)
    assert capsys.readouterr().out == ""
    require(3, lambda: None)
    assert capsys.readouterr().out == "Exercise 3: right.\n"
