"""Whole numbers in the bodies of requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from domain.record_columns import MAX_ID


def whole(value: object) -> object:
    """JSON has one kind of number, so 60.0 counts as 60."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(whole)]
