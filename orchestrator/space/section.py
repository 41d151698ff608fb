"""What every section of a search-space file is: a pydantic model whose fields carry settings."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from trainable.spec.settings import Setting


class Section(BaseModel):
    """A section: immutable, without unknown keys, every value one that its field allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def setting(cls, name: str) -> Setting:
        """What the field may be."""
        return next(item for item in cls.model_fields[name].metadata if isinstance(item, Setting))

    @classmethod
    def has_setting(cls, name: str) -> bool:
        """Whether it is said what the field may be, as it has to be of each."""
        return any(isinstance(item, Setting) for item in cls.model_fields[name].metadata)

    @field_validator("*", mode="before")
    @classmethod
    def _canonical(cls, value: object, info: ValidationInfo) -> object:
        name = info.field_name
        assert name is not None
        setting = cls.setting(name)
        if value is None and cls.model_fields[name].default is None:
            return None
        if not setting.accepts(value):
            raise ValueError(setting.allowed)
        assert isinstance(value, int | float | str)
        return setting.canonical(value)

    def to_json(self) -> dict[str, Any]:
        """The form of the file; what was left open is left out."""
        return self.model_dump(mode="json", exclude_none=True)
