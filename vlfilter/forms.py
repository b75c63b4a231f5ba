"""The parameters of a flow from plain values: a YAML file, the command line, a form."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vlfilter.errors import VlfilterError

Form = TypeVar("Form", bound=BaseModel)


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
