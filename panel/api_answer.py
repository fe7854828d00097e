"""Marks the dataclasses that the API answers with, so that the OpenAPI document shows their docstrings."""

from __future__ import annotations

import inspect
from typing import TypeVar

from pydantic import ConfigDict

C = TypeVar("C", bound=type)


def api_answer(cls: C) -> C:
    """Put a dataclass's docstring into the OpenAPI document. Pydantic does that for models only."""
    cls.__pydantic_config__ = ConfigDict(json_schema_extra={"description": inspect.cleandoc(cls.__doc__ or "")})  # type: ignore[attr-defined]
    return cls
