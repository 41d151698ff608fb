"""The base of all sections of a search-space file: a pydantic model whose fields carry settings."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from trainable.spec.setting import Setting


class Section(BaseModel):
    """A section of the file: immutable, without unknown keys, every value allowed by its field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def setting(cls, name: str) -> Setting:
        """Return the setting of a field."""
        return next(item for item in cls.model_fields[name].metadata if isinstance(item, Setting))

    @classmethod
    def has_setting(cls, name: str) -> bool:
        """Return whether a field has a setting, as every field must."""
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
        if isinstance(value, list | tuple):
            return tuple(setting.canonical(one) for one in value)
        assert isinstance(value, int | float | str)
        return setting.canonical(value)

    def to_json(self) -> dict[str, Any]:
        """Return the section as the file writes it, without values of None."""
        return self.model_dump(mode="json", exclude_none=True)
