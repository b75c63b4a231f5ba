"""The parameters of a flow: what the methods' forms share, and how they are read from plain values."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlfilter.errors import VlfilterError

F = TypeVar("F", bound=BaseModel)
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    Field(description="Of the weights; auto is bfloat16 where `device` says cuda, else float32."),
]
ImageMode = Annotated[
    Literal["auto", "processor", "pad", "squash"],
    Field(description="How an image becomes the model's size; auto: as the model was trained."),
]
BatchTokens = Annotated[int, Field(ge=1, description="Tokens in a batch, padding and image tokens included.")]
Readers = Annotated[int, Field(ge=1, le=256, description="Threads that read and decode beside the model.")]
InFlight = Annotated[int, Field(ge=1, le=64, description="Shards that one process works on at a time.")]
Seed = Annotated[int, Field(description="Of all draws; another seed is another choice.")]
Gpus = Annotated[int | None, Field(ge=1, description="Processes, one a GPU; empty: all there are.")]
Settings = Annotated[
    dict[str, Any],
    Field(description="Further training settings, over those of the preset.", examples=[{"learning_rate": 1e-5}]),
]


def _introduce_steps(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """In the UI a field that holds a step shows the step's own words, where it has none: pydantic gives it none."""
    for name, field in model.model_fields.items():
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if inspect.isclass(part)]
        step = next((part for part in parts if issubclass(part, BaseModel)), None)
        if step is not None:
            shown = schema["properties"][name]
            shown.setdefault("title", name.replace("_", " ").capitalize())
            shown.setdefault("description", " ".join(inspect.cleandoc(step.__doc__ or "").split()))


class Form(BaseModel):
    """What a flow is told. Fields that it does not know are refused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_introduce_steps)


class Step(Form):
    """One step of a flow."""


def parse_form(form: type[F], fields: Any, origin: str) -> F:
    """Raises `VlfilterError` with one line that names `origin` and the place of the first mistake."""
    if not isinstance(fields, dict):
        raise VlfilterError(f"{origin} does not hold the parameters of a run ({', '.join(form.model_fields)}).")
    try:
        return form.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise VlfilterError(f"{origin}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
