"""The published mixtures, as files of the package, and a mixture put to use with its data in one folder."""

from __future__ import annotations

from pathlib import Path

from vlfilter.errors import VlfilterError
from vlfilter.training.mixture import Mixture, read_mixture, write_mixture

FOLDER = Path(__file__).parent
PUBLISHED = ("minigpt_v2_dataengine", "minigpt_v2_baseline")


def open_mixture(mixture: str, data: str | None = None) -> Mixture:
    """A published mixture by its name, or that of a YAML file. Its relative paths start from the folder `data`, without
    one from the file's own folder.

    Raises `VlfilterError` for a published mixture without `data`, and for a file that is none.
    """
    if mixture not in PUBLISHED:
        return read_mixture(mixture, data)
    if data is None:
        raise VlfilterError(f"{mixture} is a published mixture: say which folder its data sets lie in (data).")
    return read_mixture(str(FOLDER / f"{mixture}.yaml"), data)


def place_mixture(mixture: str, data: str | None, output: str) -> Mixture:
    """Write a mixture to `output` with absolute paths, as the trainer reads it."""
    placed = open_mixture(mixture, data)
    write_mixture(output, placed)
    return placed
