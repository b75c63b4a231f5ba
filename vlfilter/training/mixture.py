"""A mixture of data sets: one entry of a YAML file each, so that more data is one more entry and no code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vlfilter.data.schemas import SCHEMAS
from vlfilter.data.schemas.base import Mode
from vlfilter.data.schemas.templates import TEMPLATES
from vlfilter.data.storage import absolute, is_local, join, read_bytes, write_bytes
from vlfilter.data.vqa_formats import FORMATS
from vlfilter.errors import VlfilterError

# the formats of each schema's answers; the first is taken where none is given
SCHEMA_FORMATS: dict[str, tuple[str, ...]] = {"llava": (), "aokvqa": ("QM-A", *FORMATS), "captions": ()}
KINDS = (*SCHEMA_FORMATS, *SCHEMAS)
WITH_MODES = ("aokvqa", *SCHEMAS)
WORDED = ("template", "answer", "image_name", "image_contains")  # fields of the kinds in SCHEMAS


class MixtureEntry(BaseModel):
    """One data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(min_length=1, description="What reports and the loss curve call it.")
    kind: str = Field(
        default="llava",
        alias="schema",
        description=f"How its files are read: LLaVA's, A-OKVQA's or cc_sbu_align's JSON ({', '.join(SCHEMA_FORMATS)}), "
        f"or one of {', '.join(SCHEMAS)}.",
    )
    data: str | tuple[str, ...] = Field(
        min_length=1, description="Its annotations, one file or several; a relative path starts from the YAML file."
    )
    images: str | None = Field(
        default=None,
        description="The folder (or s3:// prefix) that its image paths start from; relative as `data`. Rows of text "
        "alone have none.",
    )
    image_name: str | None = Field(
        default=None,
        description="How an image is called below that folder: {image} is what the row has, {name} its last part.",
        examples=["COCO_train2014_{image:0>12}.jpg"],
    )
    image_contains: str | None = Field(
        default=None, min_length=1, description="Leave out rows whose image path has not this in it."
    )
    template: str | tuple[str, ...] | None = Field(
        default=None,
        description=f"How a row is worded: one of {', '.join(TEMPLATES)}, or texts of your own with {{}} where the "
        "row's goes; of several each row gets one. By default what belongs to the schema.",
    )
    answer: Literal["drawn", "most_common"] | None = Field(
        default=None, description="Of several answers a row learns one drawn by frequency (default), or the commonest."
    )
    format: str | None = Field(default=None, description="aokvqa: the answer's wording, Q-A, QM-A, QM-AE or mmbench.")
    mode: Mode = Field(
        default="fixed",
        description="compat words rows as the original does, defects included (texts cut after 50 words and in lower "
        "case, also the letters of choices); for aokvqa it leaves out image ids that are texts.",
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
        if self.kind not in KINDS:
            raise ValueError(f"schema is one of {', '.join(KINDS)}, not {self.kind!r}")
        formats = SCHEMA_FORMATS.get(self.kind, ())
        if self.format is not None and self.format not in formats:
            known = f"one of {', '.join(dict.fromkeys(formats))}" if formats else "none"
            raise ValueError(f"the format of {self.kind} rows is {known}, not {self.format!r}")
        if self.mode == "compat" and self.kind not in WITH_MODES:
            raise ValueError(f"mode compat is for {', '.join(WITH_MODES)} rows, not {self.kind}")
        self._check_schema()
        return self

    def _check_schema(self) -> None:
        """Raises `ValueError` for what does not fit the schema."""
        schema = SCHEMAS.get(self.kind)
        if schema is None and (given := [name for name in WORDED if getattr(self, name) is not None]):
            raise ValueError(f"{', '.join(given)}: not for {self.kind} rows")
        names = schema.files if schema else ("one",)
        if names and len(self.files) != len(names):
            listed = f": {' and '.join(names)}" if schema else ""
            raise ValueError(f"the data of {self.kind} rows are {len(names)} file{'s' * (len(names) > 1)}{listed}")
        without = schema is not None and schema.image_name is None
        if without != (self.images is None):
            raise ValueError(f"{self.kind} rows have no images" if without else "images: the folder is not given")
        for name in ("image_name", "image_contains"):
            if without and getattr(self, name) is not None:
                raise ValueError(f"{name}: {self.kind} rows have no images")
        try:
            self.image_file("folder/1.jpg")
        except (LookupError, ValueError, AttributeError) as error:
            raise ValueError(f"image_name {self.image_name!r}: write {{image}} or {{name}} ({error})") from None
        if isinstance(self.template, str) and self.template not in TEMPLATES:
            raise ValueError(
                f"template is one of {', '.join(TEMPLATES)}, or a list of your own texts, not {self.template!r}"
            )

    @property
    def files(self) -> tuple[str, ...]:
        """The annotation files."""
        return (self.data,) if isinstance(self.data, str) else self.data

    @property
    def templates(self) -> tuple[str, ...]:
        """The texts of which each row gets one; for kinds in `SCHEMAS`."""
        if isinstance(self.template, tuple):
            return self.template
        return TEMPLATES[self.template or SCHEMAS[self.kind].template]

    def image_file(self, image: str | int) -> str:
        """How the image of a row is called below `images`. Raises `ValueError` for a name that it has no form for."""
        form = self.image_name or (SCHEMAS[self.kind].image_name if self.kind in SCHEMAS else None) or "{image}"
        return form.format(image=image, name=str(image).rsplit("/", 1)[-1])

    def ratio(self, rows: int) -> float:
        """How often it is drawn, `rows` of it being usable."""
        return math.sqrt(rows) if self.sample_ratio is None else self.sample_ratio


class Mixture(BaseModel):
    """Data sets that are trained on together. Each draw takes one, with its ratio over the sum of all as probability,
    and a whole batch of it (MLLM-DataEngine, arXiv 2308.13566, after InstructBLIP)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(default="fixed", description="Of the entries that name none and whose schema has modes.")
    datasets: tuple[MixtureEntry, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _inherited(cls, told: Any) -> Any:
        if not isinstance(told, Mapping) or "mode" not in told or not isinstance(told.get("datasets"), list | tuple):
            return told
        return {**told, "datasets": [_with_mode(entry, told["mode"]) for entry in told["datasets"]]}

    @field_validator("datasets")
    @classmethod
    def _distinct(cls, datasets: tuple[MixtureEntry, ...]) -> tuple[MixtureEntry, ...]:
        names = [entry.name for entry in datasets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} stands there twice: every data set needs a name of its own")
        return datasets


def parse_mixture(told: Any, url: str, root: str | None = None) -> Mixture:
    """The content of a file; `url` is for messages. Relative paths start from `root`, by default from the file's
    folder. Raises `VlfilterError` saying what does not fit in which entry."""
    try:
        mixture = Mixture.model_validate(told)
    except ValidationError as error:
        lines = [f"{_place(item['loc'], told)}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()]
        raise VlfilterError(f"the mixture {url} does not fit: " + "; ".join(lines)) from None
    base = absolute(url).rpartition("/")[0] if root is None else absolute(root)
    placed = [_placed_entry(entry, base) for entry in mixture.datasets]
    return mixture.model_copy(update={"datasets": tuple(placed)})


def read_mixture(url: str, root: str | None = None) -> Mixture:
    """The mixture of a YAML file, its paths made absolute: relative ones start from `root`, by default from the file's
    folder. Raises `VlfilterError` for a file that is none."""
    return parse_mixture(_read(url), url, root)


def write_mixture(url: str, mixture: Mixture) -> None:
    """Write a mixture as YAML, whole or not at all."""
    text = yaml.safe_dump(
        {"datasets": [_written(one) for one in mixture.datasets]}, sort_keys=False, allow_unicode=True
    )
    write_bytes(url, text.encode())


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
    write_mixture(output, made)
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


def _placed_entry(entry: MixtureEntry, base: str) -> MixtureEntry:
    data = _placed(entry.data, base) if isinstance(entry.data, str) else tuple(_placed(url, base) for url in entry.data)
    return entry.model_copy(update={"data": data, "images": entry.images and _placed(entry.images, base)})


def _placed(path: str, base: str) -> str:
    if not is_local(path) or path.startswith(("/", "~")):
        return absolute(path)
    return absolute(join(base, path))


def _with_mode(entry: Any, mode: Any) -> Any:
    if not isinstance(entry, Mapping) or "mode" in entry or entry.get("schema") not in WITH_MODES:
        return entry
    return {**entry, "mode": mode}


def _written(entry: MixtureEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"schema": entry.kind}
