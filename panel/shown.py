"""Dataclasses that are shown as they are: the API's document describes them by their own words."""

from __future__ import annotations

import inspect
from typing import TypeVar

from pydantic import ConfigDict

C = TypeVar("C", bound=type)


def shown(cls: C) -> C:
    """Let the OpenAPI document say of a dataclass what its docstring says; pydantic leaves it out by itself."""
    cls.__pydantic_config__ = ConfigDict(json_schema_extra={"description": inspect.cleandoc(cls.__doc__ or "")})  # type: ignore[attr-defined]
    return cls
