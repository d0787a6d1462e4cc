#!/usr/bin/env python3
"""Check a source distribution and a wheel before they are published: ``check_dist.py VERSION FOLDER``.

The wheel has every file of the package and nothing else, both have the version, and no link of the description is relative.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def problems(version: str, folder: Path) -> list[str]:
    """Return what is wrong with the files in a folder, one sentence each."""
    name = f"partium_auth-{version}"
    expected = {f"{name}-py3-none-any.whl", f"{name}.tar.gz"}
    if (there := {path.name for path in folder.iterdir()}) != expected:
        return [f"{folder} has {sorted(there)}, not {sorted(expected)}."]
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    package = {path for path in tracked if path.startswith("partium_auth/")}
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl") as wheel:
        files = {path for path in wheel.namelist() if not path.endswith("/")}
        metadata = wheel.read(f"{name}.dist-info/METADATA").decode()
    with tarfile.open(folder / f"{name}.tar.gz") as source:
        sources = {member.name.partition("/")[2] for member in source.getmembers() if member.isfile()}
    inside = {path for path in files if not path.startswith(f"{name}.dist-info/")}
    found = [f"The wheel lacks {path}." for path in sorted(package - inside)]
    found += [f"The wheel has {path}, which is not the package's." for path in sorted(inside - package)]
    wanted = {path for path in tracked if path.startswith(("docs/", "tests/", "example_project/"))} | {"mkdocs.yml"}
    found += [f"The source distribution lacks {path}." for path in sorted(wanted - sources)]
    links = re.findall(r"\]\((?!https://|#)([^)]+)\)", metadata)
    return found + [f"The description has a relative link: {link}" for link in links]


if __name__ == "__main__":
    wrong = problems(sys.argv[1], Path(sys.argv[2]))
    sys.exit("\n".join(wrong) or 0)
