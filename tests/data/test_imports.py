import subprocess
import sys

LIGHT = ("encoding", *(f"data.{name}" for name in ("card", "files", "folder", "checksum", "check")))
LIGHT += ("data.check_report", "data.scaffold", "data.synthetic", "data.prepare", "data.arrays")


def test_looking_at_data_does_not_wait_for_torch():
    code = "; ".join(f"import imasks.{name}" for name in LIGHT)
    code += "; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
