"""One finding a line: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vlfilter.doctor.secrets import without_secrets
from vlfilter.errors import VlfilterError

Level = Literal["ok", "note", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """`level` is `note` for what is not there and need not be; `advice` says what to do where it is warn or fail."""

    name: str
    level: Level
    text: str
    advice: str = ""

    def line(self) -> str:
        """All but the level."""
        return f"{self.name:<15} {self.text}" + (f" → {self.advice}" if self.advice else "")


@dataclass(frozen=True, slots=True)
class Look:
    """One thing to look at: a name, and the function that finds out."""

    name: str
    find: Callable[[], Check | Iterable[Check]]


def examine(looks: Iterable[Look]) -> Iterator[Check]:
    """What each look finds, as it is found. One that breaks is a finding as well; secrets are cut out of all."""
    for look in looks:
        for check in _findings(look):
            yield Check(check.name, check.level, one_line(check.text), one_line(check.advice))


def _findings(look: Look) -> Iterator[Check]:
    try:
        found = look.find()
        yield from [found] if isinstance(found, Check) else found
    except VlfilterError as error:
        yield Check(look.name, "fail", str(error))
    except Exception as error:  # whatever a broken installation raises is what we are here to tell
        yield Check(look.name, "fail", f"{type(error).__name__}: {error}")


def one_line(text: str, most: int = 400) -> str:
    """`text` without line breaks, secrets and what is too long."""
    words = " ".join(without_secrets(text).split())
    return words if len(words) <= most else words[: most - 2] + " …"


def plain(checks: Sequence[Check]) -> dict[str, Any]:
    """The whole examination as plain values; `healthy` is what the exit code says."""
    return {"healthy": healthy(checks), "checks": [asdict(check) for check in checks]}


def healthy(checks: Iterable[Check]) -> bool:
    return all(check.level != "fail" for check in checks)
