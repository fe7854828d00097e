"""Checks what an operator sent, as JSON or by the form of a page, against the model of it."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from api.http.problems import ProblemError

B = TypeVar("B", bound=BaseModel)


def validated(model: type[B], content: object) -> B:
    """What was sent, as this model. Raises ProblemError, whose message repeats no value."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "body"
        message = f"{name}: {first['msg'].removeprefix('Value error, ')}"
        raise ProblemError(422, "invalid_field", message, field=name) from None
