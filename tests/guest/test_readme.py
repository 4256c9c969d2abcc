"""What README says of guests can be pasted."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300.0


@pytest.mark.usefixtures("image")
def test_the_example_of_a_guest_can_be_pasted(tmp_path: Path) -> None:
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    examples = re.findall(r"^```\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (example,) = [each for each in examples if "tools/guest run" in each]
    done = subprocess.run(
        ["bash", "-e"], input=example, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "iqn.2026-11.org.iscsi-target:guest" in done.stdout
    assert re.search(r"disk +ISCSITGT .*/dev/sda", done.stdout)
    assert "Report capabilities response" in done.stdout
