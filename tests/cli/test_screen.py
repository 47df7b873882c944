"""Tables for people, plain lines for programs."""

from __future__ import annotations

import pytest

from tesk.cli import screen
from tesk.cli.demo.board import Board

COLUMNS = ("ID", "STATE")
ROWS = [("a", "COMPLETE"), ("b\x1b[2J", "RUNNING")]


def test_a_terminal_gets_a_table_and_nothing_that_names_could_do_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "is_terminal", lambda: True)
    screen.print_rows(COLUMNS, ROWS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["ID", "STATE"], ["a", "COMPLETE"], ["b\\x1b[2J", "RUNNING"]]


def test_elsewhere_there_are_plain_rows(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print_rows(COLUMNS, ROWS)
    assert capsys.readouterr().out == "a\tCOMPLETE\nb\\x1b[2J\tRUNNING\n"


def test_the_demos_board_is_a_table_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tesk.cli.demo.board.is_terminal", lambda: True)
    with Board() as board:
        board.name("t", "count")
        board.changed("t", "COMPLETE")
    assert "COMPLETE" in capsys.readouterr().out
    monkeypatch.setattr("tesk.cli.demo.board.is_terminal", lambda: False)
    with Board() as board:
        board.name("t", "count")
        board.changed("t", "RUNNING")
    assert capsys.readouterr().out.split()[2:] == ["RUNNING", "count"]
