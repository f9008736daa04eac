"""One response cache for several processes, whatever ends them."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentkit.cache.disk import DiskStore
from agentkit.cache.response import ResponseCache
from agentkit.types import Response
from tests.programs import run, start

pytestmark = pytest.mark.processes

LOOK = """
import sys
from agentkit.cache.response import build_response_cache
cache = build_response_cache("disk", directory=sys.argv[1])
found = [cache.load(key, True) for key in sys.argv[2:]]
print(*["-" if each is None else each.text for each in found])
cache.close()
"""

WRITE_UNTIL_KILLED = """
import sys
from agentkit.cache.disk import DiskStore
store = DiskStore(sys.argv[1])
number = int(sys.argv[2])
while True:
    store.set(f"g:{number}", b"%d " % number * 2000, 3600.0)
    print(number, flush=True)
    number += 1
"""

SCRIPT = """
import sys
from agentkit.cache.response import build_response_cache
from agentkit.types import Response
cache = build_response_cache("disk", directory=sys.argv[1])
for number in range(200):
    cache.save_later(f"k{number}", Response(f"answer-{number}"), True)
"""

LAZY = """
import sys
from agentkit.cache.response import build_response_cache
from agentkit.types import Response
heavy = lambda: sorted({"diskcache", "sqlite3", "platformdirs"} & set(sys.modules) - {"sqlite3"})
cache = build_response_cache("disk", directory=sys.argv[1])
cache.save("k", Response("x"), False)
cache.load("k", True)
before = heavy()
cache.load("absent", True)
print(before, heavy())
"""

MANY = """
import sys
from agentkit.cache.disk import DiskStore
store = DiskStore(sys.argv[1])
for number in range(100):
    store.set(f"g:{sys.argv[2]}-{number}", b"x" * 500, 3600.0)
print("done")
"""


def test_a_second_process_hits_what_the_first_one_stored(tmp_path: Path) -> None:
    cache = ResponseCache(DiskStore(tmp_path))
    cache.save("k", Response("Paris"), True)
    assert run(LOOK, tmp_path, "k", "absent") == "Paris -"
    cache.close()


def test_a_script_that_ends_at_once_still_writes_what_waits(tmp_path: Path) -> None:
    assert run(SCRIPT, tmp_path) == ""
    assert run(LOOK, tmp_path, "k0", "k199") == "answer-0 answer-199"


def test_diskcache_is_not_imported_before_the_disk_is_used(tmp_path: Path) -> None:
    assert run(LAZY, tmp_path) == "[] ['diskcache']"


def test_a_killed_writer_loses_nothing_it_had_stored_and_damages_nothing(tmp_path: Path) -> None:
    dice, stored = random.Random(7), 0
    for _ in range(4):
        process = start(WRITE_UNTIL_KILLED, tmp_path, stored)
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(dice.randrange(5, 60)):
            stored = int(process.stdout.readline()) + 1
        process.kill()
        rest = process.stdout.read().split()
        stored = int(rest[-1]) + 1 if rest else stored
        process.stdout.close()
        process.stderr.close()
        process.wait()
        store = DiskStore(tmp_path)
        lost = [n for n in range(stored) if store.get(f"g:{n}") != b"%d " % n * 2000]
        assert lost == []
        store.close()
        with closing(sqlite3.connect(store.path / "cache.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert stored > 20


def test_three_processes_open_and_fill_a_new_directory_at_once(tmp_path: Path) -> None:
    writers = [start(MANY, tmp_path, number) for number in range(3)]
    for writer in writers:
        output, errors = writer.communicate(timeout=50)
        assert (output, errors) == ("done\n", "")
    store = DiskStore(tmp_path)
    assert all(store.get(f"g:{who}-{n}") for who in range(3) for n in range(100))
    store.close()


FORK = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")  # newer Pythons warn of any fork with threads
from agentkit.cache.response import build_response_cache
from agentkit.types import Response
cache = build_response_cache("disk", directory=sys.argv[1])
assert cache.load("nothing", True) is None  # every call looks first, which opens the database
for number in range(100):
    cache.save_later(f"early{number}", Response("from before"), True)
child = os.fork()
if child == 0:
    cache.save("child", Response("from the child"), True)
    cache.save_later("child later", Response("from the child's writer"), True)
    assert cache.flush(10.0)
    signal.alarm(20)
    assert cache.load("early0", True).text == "from before"
    assert cache.statistics()["faults"] == {}
    cache.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert cache.flush(10.0)
cache.save("parent", Response("from the parent"), True)
assert cache.flush(10.0)
fresh = build_response_cache("disk", directory=sys.argv[1])
print(*[fresh.load(key, True).text for key in ("child", "child later", "parent", "early99")],
      cache.statistics()["faults"], sep=", ")
fresh.close()
cache.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_while_answers_wait_to_be_written_leaves_both_sides_working(tmp_path: Path) -> None:
    assert run(FORK, tmp_path) == (
        "from the child, from the child's writer, from the parent, from before, {}"
    )
