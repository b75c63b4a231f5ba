"""The parameters of a flow: what the methods' forms share, and how they are read from plain values."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlfilter.errors import VlfilterError

Form = TypeVar("Form", bound=BaseModel)
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")]
Gpus = Annotated[int | None, Field(ge=1, description="Processes, one a GPU; empty: all there are.")]
Settings = Annotated[
    dict[str, Any],
    Field(description="Further training settings, over those of the preset.", examples=[{"learning_rate": 1e-5}]),
]


class Step(BaseModel):
    """One step of a flow. Fields that it does not know are refused."""

    model_config = ConfigDict(extra="forbid")


def parse_form(form: type[Form], fields: Any, origin: str) -> Form:
    """Raises `VlfilterError` with one line that names `origin` and the place of the first mistake."""
    if not isinstance(fields, dict):
        raise VlfilterError(f"{origin} does not hold the parameters of a run ({', '.join(form.model_fields)}).")
    try:
        return form.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise VlfilterError(f"{origin}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
