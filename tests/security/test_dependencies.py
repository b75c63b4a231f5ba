"""What is pinned and installed, against a list of known holes: no network, and no more than the list knows."""

from __future__ import annotations

import csv
import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"([A-Za-z0-9._-]+)==([^ ;]+)(?: ; (.*))?")


def pinned() -> dict[str, Version]:
    """Those that apply to this machine."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if (match := LINE.fullmatch(line.strip())) and (not match[3] or Marker(match[3]).evaluate()):
            found[canonicalize_name(match[1])] = Version(match[2])
    return found


def advisories() -> list[dict[str, str]]:
    with (Path(__file__).parent / "advisories.csv").open() as file:
        return list(csv.DictReader(file))


def below(versions: dict[str, Version], known: list[dict[str, str]]) -> list[str]:
    return [
        f"{row['package']} {versions[row['package']]} is below {row['first_safe']}: {row['advisory']}, {row['what']}"
        for row in known
        if row["package"] in versions and versions[row["package"]] < Version(row["first_safe"])
    ]


def test_no_pinned_version_has_a_known_hole() -> None:
    assert len(pinned()) > 100
    assert len(advisories()) >= 15
    assert below(pinned(), advisories()) == []
    assert below({"torch": Version("2.5.1")}, advisories())


def test_the_oldest_versions_that_we_say_we_take_have_none_either() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    least: dict[str, Version] = {}
    for requirement in map(Requirement, told):
        for one in requirement.specifier:
            if one.operator == ">=":
                least[canonicalize_name(requirement.name)] = Version(one.version)
    assert len(least) > 20
    assert below(least, advisories()) == []


def test_what_is_installed_is_what_is_pinned() -> None:
    wanted = pinned()
    installed = {canonicalize_name(one.metadata["Name"]): Version(one.version) for one in distributions()}
    other = {
        name: (str(installed[name]), str(wanted[name]))
        for name in wanted
        if name in installed and installed[name] != wanted[name]
    }
    assert other == {}


def test_nothing_was_installed_from_an_address() -> None:
    """But for vlfilter itself, which is installed from its folder."""
    odd = {one.metadata["Name"]: told for one in distributions() if (told := one.read_text("direct_url.json"))}
    assert set(odd) <= {"vlfilter"}
