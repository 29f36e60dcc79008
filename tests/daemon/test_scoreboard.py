"""The memory that supervisor and workers share."""

import subprocess
import sys

import pytest

from pacsnode.daemon.scoreboard import RowState, Scoreboard

WRITE_IN_A_CHILD = """
import os
from pacsnode.daemon.scoreboard import RowState, Scoreboard
scoreboard = Scoreboard(2, clock=lambda: 12.5)
row = scoreboard.occupy_row(generation=7)
pid = os.fork()
if pid == 0:
    row.set_active(3)
    row.set_state(RowState.SERVING)
    row.beat()
    os._exit(0)
os.waitpid(pid, 0)
print(row.state.name, row.generation, row.active, row.heartbeat_seconds, scoreboard.total_active())
"""


def test_child_writes_what_the_parent_reads() -> None:
    """What a process writes after the fork is seen by the one that made the scoreboard."""
    answer = subprocess.run(
        [sys.executable, "-c", WRITE_IN_A_CHILD], check=True, capture_output=True, text=True
    )

    assert answer.stdout == "SERVING 7 3 12.5 3\n"


def test_total_counts_all_rows() -> None:
    """The associations of the node are those of all rows together."""
    scoreboard = Scoreboard(3)
    scoreboard.row(0).set_active(2)
    scoreboard.row(2).set_active(5)

    assert scoreboard.total_active() == 7


def test_rows_do_not_overlap() -> None:
    """Writing a whole row changes no other row."""
    scoreboard = Scoreboard(3, clock=lambda: 1.0)
    row = scoreboard.row(1)
    row.occupy(generation=9)
    row.set_active(4)

    for other in (scoreboard.row(0), scoreboard.row(2)):
        assert other.state is RowState.EMPTY
        assert (other.generation, other.active, other.heartbeat_seconds) == (0, 0, 0.0)


def test_cleared_row_takes_its_associations_along() -> None:
    """A worker that has ended no longer counts for the limit of the node."""
    scoreboard = Scoreboard(1)
    row = scoreboard.occupy_row(generation=1)
    row.set_active(6)
    row.clear()

    assert scoreboard.total_active() == 0
    assert row.state is RowState.EMPTY


def test_occupied_row_is_fresh() -> None:
    """A row that is occupied starts with a heartbeat of now and without associations."""
    scoreboard = Scoreboard(1, clock=lambda: 44.0)
    row = scoreboard.occupy_row(generation=2)

    assert row.state is RowState.STARTING
    assert (row.generation, row.active, row.heartbeat_seconds) == (2, 0, 44.0)


def test_no_row_is_given_twice() -> None:
    """A further worker gets another row, and none when all are taken."""
    scoreboard = Scoreboard(2)

    assert scoreboard.occupy_row(generation=1) is scoreboard.row(0)
    assert scoreboard.occupy_row(generation=1) is scoreboard.row(1)
    with pytest.raises(LookupError, match="in use"):
        scoreboard.occupy_row(generation=1)
