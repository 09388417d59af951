"""What the documentation names is there: files, tests, commands, flags and defaults."""

import re
from pathlib import Path

import pytest

from tidegate.serve.options import build_parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    links = [page.parent / name for name in re.findall(r"\]\(([\w./-]+)[)#]", text_of(page))]
    tests = [ROOT / name for name in re.findall(r"`(tests/[\w/.]+)`", text_of(page))]
    assert [str(path) for path in links + tests if not path.exists()] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_target_of_make_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"(?:^|`|PROFILES=\w+ )make ([a-z-]+)", text_of(page), re.MULTILINE))
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("name", ["serving.md", "streams.md"])
def test_every_flag_of_the_server_that_a_page_names_is_there(name: str) -> None:
    known = {flag for action in build_parser()._actions for flag in action.option_strings}
    # Commands that are not the server's stand in blocks or say whose they are.
    prose = re.sub(r"```.*?```", "", text_of(ROOT / "docs" / name), flags=re.DOTALL)
    named = set(re.findall(r"`(--[a-z0-9-]+)", prose))
    assert len(named) > 3
    assert named - known == set()


def test_every_setting_of_the_deployment_has_the_default_that_its_page_says() -> None:
    settings = text_of(ROOT / "docs" / "deployment.md").partition("## Settings")[2]
    said: dict[str, str] = {}
    for row in re.findall(r"^\| (`[A-Z].*) \|$", settings.partition("\n## ")[0], re.MULTILINE):
        names, defaults, _ = (cell.strip().replace("`", "") for cell in row.split("|"))
        said |= dict(zip(names.split(", "), defaults.split(", "), strict=True))
    found = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE))
    assert said == found
