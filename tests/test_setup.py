"""scripts/setup beside itself."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_second_setup_waits_with_a_message(tmp_path: Path) -> None:
    for name in ("setup", "common.sh"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy2(SCRIPTS / name, tmp_path / "scripts" / name)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    # Without programs it can install nothing once it has waited.
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "env", "flock"):
        (tools / name).symlink_to(shutil.which(name) or name)
    with subprocess.Popen(
        [tmp_path / "scripts" / "setup"],
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": str(tools)},
    ) as setup:
        assert setup.stderr is not None
        assert "waits for another scripts/setup" in setup.stderr.readline()
        assert setup.poll() is None
        os.close(handle)
        assert "needs Python 3.11 or newer" in setup.stderr.read()
    assert setup.returncode == 2
