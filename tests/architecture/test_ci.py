"""`.ci/pytest` runs a few failed tests again, and hides nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands in for a Python with pytest: fails as often as its file of exit codes says.
PYTHON = f"""#!/bin/sh
[ "$1" = -c ] && exec {sys.executable} "$@"
echo "$*" >>runs
cache=${{4#cache_dir=}}
mkdir -p "$cache/v/cache"
cp failed.json "$cache/v/cache/lastfailed"
status=$(head -n 1 codes)
sed -i 1d codes
exit "$status"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a script for the machines of CI")
@pytest.mark.parametrize(
    ("codes", "failing", "status", "flaky"),
    [
        ([0], 0, 0, False),
        ([1, 0], 5, 0, True),
        ([1, 1], 5, 1, False),
        ([1], 6, 1, False),
        ([1], 0, 1, False),  # failed, but no test did
        ([2], 1, 2, False),
    ],
)
def test_at_most_five_failed_tests_run_again_and_are_named(
    tmp_path: Path, codes: list[int], failing: int, status: int, flaky: bool
) -> None:
    names = [f"tests/test_a.py::test[a b-{number}]" for number in range(failing)]
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "failed.json").write_text(json.dumps(dict.fromkeys(names, True)))
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    run = subprocess.run(
        [ROOT / ".ci/pytest", python, "-n", "2", "-W", "error"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "FLAKY_TESTS": str(tmp_path / "flaky")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == status
    runs = (tmp_path / "runs").read_text().splitlines()
    assert len(runs) == len(codes)
    assert all("-W error" in each for each in runs)
    assert all("-n 0 --last-failed" in each for each in runs[1:])
    written = tmp_path / "flaky"
    assert (written.read_text().splitlines() if written.exists() else []) == names * flaky
    assert all(name in run.stdout for name in names[: 5 * (len(codes) > 1)])
