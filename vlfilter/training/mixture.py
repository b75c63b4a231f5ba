"""A mixture of data sets: one entry of a YAML file each, so that more data is one more entry and no code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vlfilter.data.storage import absolute, is_local, join, read_bytes, write_bytes
from vlfilter.data.vqa_formats import FORMATS
from vlfilter.errors import VlfilterError

# the formats of each schema's answers; the first is taken where none is given
SCHEMA_FORMATS: dict[str, tuple[str, ...]] = {"llava": (), "aokvqa": ("QM-A", *FORMATS), "captions": ()}


class MixtureEntry(BaseModel):
    """One data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(min_length=1, description="What reports and the loss curve call it.")
    kind: Literal["llava", "aokvqa", "captions"] = Field(
        default="llava", alias="schema", description="How its file is read: LLaVA's, A-OKVQA's or cc_sbu_align's JSON."
    )
    data: str = Field(description="Its annotations; a relative path starts from the YAML file.")
    images: str = Field(description="The folder (or s3:// prefix) that its image paths start from; relative as `data`.")
    format: str | None = Field(default=None, description="aokvqa: the answer's wording, Q-A, QM-A, QM-AE or mmbench.")
    mode: Literal["compat", "fixed"] = Field(
        default="fixed", description="aokvqa: compat also leaves out image ids that are texts, as the original."
    )
    sample_ratio: float | None = Field(default=None, gt=0, description="How often it is drawn, beside the others.")
    sqrt: bool = Field(default=False, description="Draw it by the square root of its usable rows instead.")
    sample_num: int | None = Field(default=None, ge=1, description="Take only so many of its rows, at random.")
    batch_size: int | None = Field(
        default=None, ge=1, description="Samples of one draw; by default the step's samples over its draws."
    )

    @model_validator(mode="after")
    def _consistent(self) -> MixtureEntry:
        if self.sqrt == (self.sample_ratio is not None):
            raise ValueError("give sample_ratio, or sqrt: true")
        formats = SCHEMA_FORMATS[self.kind]
        if self.format is not None and self.format not in formats:
            known = f"one of {', '.join(dict.fromkeys(formats))}" if formats else "none"
            raise ValueError(f"the format of {self.kind} rows is {known}, not {self.format!r}")
        if self.mode == "compat" and self.kind != "aokvqa":
            raise ValueError(f"mode compat is for aokvqa rows, not {self.kind}")
        return self

    def ratio(self, rows: int) -> float:
        """How often it is drawn, `rows` of it being usable."""
        return math.sqrt(rows) if self.sample_ratio is None else self.sample_ratio


class Mixture(BaseModel):
    """Data sets that are trained on together. Each draw takes one, with its ratio over the sum of all as probability,
    and a whole batch of it (MLLM-DataEngine, arXiv 2308.13566, after InstructBLIP)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    datasets: tuple[MixtureEntry, ...] = Field(min_length=1)

    @field_validator("datasets")
    @classmethod
    def _distinct(cls, datasets: tuple[MixtureEntry, ...]) -> tuple[MixtureEntry, ...]:
        names = [entry.name for entry in datasets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} stands there twice: every data set needs a name of its own")
        return datasets


def parse_mixture(told: Any, url: str) -> Mixture:
    """The content of a file; `url` is for messages and for relative paths. Raises `VlfilterError` saying what does not
    fit in which entry."""
    try:
        mixture = Mixture.model_validate(told)
    except ValidationError as error:
        lines = [f"{_place(item['loc'], told)}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()]
        raise VlfilterError(f"the mixture {url} does not fit: " + "; ".join(lines)) from None
    base = absolute(url).rpartition("/")[0]
    placed = [
        entry.model_copy(update={"data": _placed(entry.data, base), "images": _placed(entry.images, base)})
        for entry in mixture.datasets
    ]
    return mixture.model_copy(update={"datasets": tuple(placed)})


def read_mixture(url: str) -> Mixture:
    """The mixture of a YAML file, its paths made absolute. Raises `VlfilterError` for a file that is none."""
    return parse_mixture(_read(url), url)


def with_round(mixture: str, name: str, data: str, images: str, output: str, **entry: Any) -> Mixture:
    """Write the mixture of a YAML file with one more data set to `output`, in place or elsewhere, and return it.

    `entry` are further fields of the entry; without them it is of schema aokvqa and drawn by the square root of its
    rows. The paths in `output` are absolute, so that it may lie anywhere; comments are not kept. Raises
    `VlfilterError` for a name that is taken and for fields that do not fit.
    """
    before = read_mixture(mixture)
    told = [_written(one) for one in before.datasets]
    ratio = {} if "sample_ratio" in entry else {"sqrt": True}
    told.append(
        {"name": name, "schema": "aokvqa", "data": absolute(data), "images": absolute(images), **ratio, **entry}
    )
    made = parse_mixture({"datasets": told}, output)
    text = yaml.safe_dump({"datasets": [_written(one) for one in made.datasets]}, sort_keys=False, allow_unicode=True)
    write_bytes(output, text.encode())
    return made


def probabilities(ratios: Sequence[float]) -> list[float]:
    """How probable each data set is in a draw."""
    total = sum(ratios)
    return [ratio / total for ratio in ratios]


def _read(url: str) -> Any:
    try:
        return yaml.safe_load(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no mixture {url}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VlfilterError(f"{url} is not a YAML file: {error}") from None


def _place(where: Sequence[int | str], told: Any) -> str:
    """`datasets.2.format` with the entry's name in place of its number."""
    parts = list(where)
    if len(parts) > 1 and isinstance(parts[1], int):
        entry = told["datasets"][parts[1]]
        name = entry.get("name") if isinstance(entry, Mapping) else None
        parts[1] = str(name or f"entry {parts[1] + 1}")
        parts = parts[1:]
    return ".".join(map(str, parts)) or "the file"


def _placed(path: str, base: str) -> str:
    if not is_local(path) or path.startswith(("/", "~")):
        return absolute(path)
    return absolute(join(base, path))


def _written(entry: MixtureEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"schema": entry.kind}
