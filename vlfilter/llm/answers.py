"""A vendor's reply → an Answer: what counts as one, and whether its JSON is what was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Answer, Outcome, Request, Usage
from vlfilter.llm.vendor import Reply

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
LONGEST_ERROR = 300


def read_answer(request: Request, reply: Reply) -> tuple[Answer, str | None]:
    """The answer (without its cost), and what is wrong with its JSON where a repair may help."""
    usage = reply.usage or Usage()
    if reply.refusal is not None:
        return Answer(Outcome.REFUSED, reply.text, reason=reply.refusal, usage=usage, model=reply.model), None
    cut = f"cut off at max_tokens={request.max_tokens}" if reply.cut else ""
    if not reply.text.strip():
        return Answer(Outcome.EMPTY, reason=cut or "no text", usage=usage, model=reply.model), None
    if request.schema is None:
        return Answer(Outcome.ANSWERED, reply.text, reason=cut, usage=usage, model=reply.model), None
    data, wrong = read_json(reply.text, request.schema)
    if not wrong:
        return Answer(Outcome.ANSWERED, reply.text, data, usage=usage, model=reply.model), None
    reason = f"{wrong} ({cut})" if cut else wrong
    failed = Answer(Outcome.FAILED, reply.text, reason=reason, usage=usage, model=reply.model)
    return failed, None if cut else wrong


def read_json(text: str, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """The value, and what is wrong with it ("" if nothing). A fence around the JSON is taken off."""
    import jsonschema

    fenced = _FENCE.fullmatch(text)
    try:
        data = json.loads(fenced[1] if fenced else text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return None, f"the answer is not JSON: {error}"[:LONGEST_ERROR]
    worst = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(data))
    if worst is None:
        return data, ""
    return None, f"the answer's JSON is not valid: {worst.json_path}: {worst.message}"[:LONGEST_ERROR]


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises `VlfilterError` where the schema itself is wrong, before anything is paid for."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise VlfilterError(f"the JSON schema of a request is wrong: {error.message}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
