"""docs/architecture.md shows the folders, files and arrows that there are."""

import re
from pathlib import Path

import mist_bench
from harness import ROOT as PROJECT
from test_arrows import ARROWS

ROOT = Path(mist_bench.__file__).parent
TREE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
PARTS = re.split(r"^  ([a-z/]+)/", TREE, flags=re.MULTILINE)[1:]
FOLDERS = dict(zip(PARTS[::2], PARTS[1::2], strict=True))


def test_the_folders_are_those_that_there_are():
    assert set(FOLDERS) == {
        path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob("__init__.py") if path.parent != ROOT
    }


def test_the_files_of_each_folder_are_those_that_there_are():
    for folder, text in FOLDERS.items():
        files = {path.name for path in (ROOT / folder).iterdir() if path.suffix in (".py", ".c")} - {"__init__.py"}
        assert set(re.findall(r"\w+\.(?:py|c)\b", text)) == files, folder


def test_the_arrows_are_those_of_the_table():
    for folder, arrows in ARROWS.items():
        shown = re.match(r"\s*->([^\n]*)", FOLDERS[folder])
        assert shown, folder
        assert folder == "cli" or set(shown[1].split()) == set(arrows.split()), folder
    assert FOLDERS["cli"].split()[:2] == ["->", "everything"]
