"""What every section of a search-space file is: a pydantic model whose fields carry rules."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from orchestrator.space.value_rules import Rule


class Section(BaseModel):
    """A section: immutable, without unknown keys, every value within the rule of its field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def rule(cls, name: str) -> Rule:
        """What the field may be."""
        return next(item for item in cls.model_fields[name].metadata if isinstance(item, Rule))

    @field_validator("*", mode="before")
    @classmethod
    def _canonical(cls, value: object, info: ValidationInfo) -> object:
        name = info.field_name
        assert name is not None
        rule = cls.rule(name)
        if value is None and cls.model_fields[name].default is None:
            return None
        if not rule.accepts(value):
            raise ValueError(rule.allowed)
        assert isinstance(value, int | float | str)
        return rule.canonical(value)

    def to_json(self) -> dict[str, Any]:
        """The form of the file; what was left open is left out."""
        return self.model_dump(mode="json", exclude_none=True)
