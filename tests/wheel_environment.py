"""Make an environment that has the built wheel, and every other package from this one.

Usage: python tests/wheel_environment.py FOLDER   (the folder holds one wheel; gets `venv/`)
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def main(folder: Path) -> None:
    (wheel,) = folder.glob("*.whl")
    home = folder / "venv"
    venv.create(home, with_pip=False, symlinks=True, clear=True)
    python = home / "bin" / "python"
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    install = ["pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.check_call([sys.executable, "-m", *install, "--disable-pip-version-check"])
    # A plain path line: the libraries are found, but the editable hook beside them does not run.
    Path(site, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    where = subprocess.check_output(
        [python, "-I", "-c", "import halfhour.generator as g; print(g.__file__)"], text=True
    )
    if not Path(where.strip()).is_relative_to(home.resolve()):
        sys.exit(f"the environment would test {where.strip()}, not the wheel")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
