"""The models of requests and answers about what another repair policy, or other limits, would do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from panel.operators.repair_policy.past_deletes import PastDeletes
from panel.operators.repair_policy.policies import CLASSES, MODES
from panel.operators.repair_policy.what_ifs import WhatIf

Word = Annotated[str, Field(max_length=64)]


class WhatIfBody(BaseModel):
    """Classes of ``REPAIR_POLICY`` and what is done with each, as if that had been written there."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # The words are checked where the question is stored, so that page, API and command refuse with one sentence.
    policy: Annotated[
        dict[Word, Word],
        Field(
            min_length=1,
            max_length=len(CLASSES),
            json_schema_extra={"propertyNames": {"enum": [*CLASSES]}, "additionalProperties": {"enum": [*MODES]}},
        ),
    ]


BODIES: tuple[type[BaseModel], ...] = (WhatIfBody,)


class WhatIfAnswer(BaseModel):
    """One what-if."""

    status: Literal["success"]
    data: WhatIf


class WhatIfsAnswer(BaseModel):
    """The latest what-ifs, newest first."""

    status: Literal["success"]
    data: list[WhatIf]


class PastDeletesAnswer(BaseModel):
    """The deletes of the last days, judged."""

    status: Literal["success"]
    data: PastDeletes
