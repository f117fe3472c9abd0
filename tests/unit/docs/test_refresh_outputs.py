"""The script that writes outputs into pages, and the pages whose commands it runs."""

import importlib.util
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PAGES = sorted(
    path for path in (REPOSITORY / "docs").glob("*.md") if "<!-- needs: " in path.read_text()
)
PAGE = """# Page

<!-- needs: LICENSE -->

The outputs are those of old.

```console
$ ls
old output
$ echo $(( 1 + 1 ))
```

```sh
$ not run
```
"""


@pytest.fixture(scope="module")
def script():
    path = REPOSITORY / "docs" / "refresh_outputs.py"
    spec = importlib.util.spec_from_file_location("refresh_outputs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outputs_are_replaced_and_the_rest_stays(script):
    ran = []
    text = script.refreshed(PAGE, lambda command: ran.append(command) or f"new {len(ran)}\n")
    assert ran == ["ls", "echo $(( 1 + 1 ))"] == script.commands_of(PAGE)
    assert text == PAGE.replace("old output\n", "new 1\n").replace("1 ))\n", "1 ))\nnew 2\n")


def test_a_second_time_gives_the_same(script):
    once = script.refreshed(PAGE, str.upper)
    assert script.refreshed(once, str.upper) == once


def test_the_day_is_written(script):
    text = script.measured(PAGE, time.strptime("2026-11-03", "%Y-%m-%d"), 2)
    assert "The outputs are those of 3 November 2026, on 2 cores" in text
    assert "of old" not in text


def test_commands_run_in_a_repository_with_what_the_page_needs(script, tmp_path):
    workplace = script.Workplace(PAGE, tmp_path, "page")
    assert workplace.run("git ls-files") == ".gitignore\nLICENSE\n"
    assert workplace.run("pwd") == "~/page\n"
    with pytest.raises(SystemExit, match="false ended with 1"):
        workplace.run("false")


def test_a_picture_shows_the_terminal_and_fetches_nothing(script, tmp_path):
    workplace = script.Workplace(PAGE, tmp_path, "page")
    picture = script.drawn(workplace.run_in_terminal(r"stty size; printf '\033[31mred\n'"), "$ it")
    assert ">50&#160;80<" in picture
    assert ">red<" in picture
    assert "url(http" not in picture
    assert script.PICTURE.findall("![$ trainprof runs](images/a.svg)") == [
        ("trainprof runs", "images/a.svg")
    ]


def test_the_tutorial_is_among_the_pages():
    assert "tutorial.md" in [path.name for path in PAGES]


@pytest.mark.slow
@pytest.mark.loops
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_all_commands_of_a_page_succeed(script, page):
    text, _ = script.refresh(page)
    assert script.commands_of(text) == script.commands_of(page.read_text())
