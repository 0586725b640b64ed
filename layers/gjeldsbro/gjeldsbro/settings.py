"""What a function reads from its environment, validated once at cold start.

Each function declares a subclass with just the fields that it uses; a field's environment variable is its name in
upper case. There are no defaults for names of tables, buckets or secrets: a missing one stops the function at once
instead of letting it work on the wrong data.
"""

import os
from functools import lru_cache
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from gjeldsbro.errors import ConfigurationError


class Settings(BaseModel):
    """Base of every function's settings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def load(cls) -> Self:
        """The settings of this process.

        Raises ConfigurationError that names the missing or wrong variables, never their values.
        """
        settings: Self = _load(cls)
        return settings


@lru_cache(maxsize=None)
def _load[S: Settings](cls: type[S]) -> S:
    names = {field: field.upper() for field in cls.model_fields}
    values = {field: os.environ[name] for field, name in names.items() if name in os.environ}
    try:
        return cls.model_validate(values)
    except ValidationError as exc:
        wrong = sorted({names[str(error["loc"][0])] for error in exc.errors()})
        raise ConfigurationError(f"missing or wrong environment variables: {', '.join(wrong)}") from None


def forget_settings() -> None:
    """Read the environment anew at the next ``load``: for tests that change it."""
    _load.cache_clear()
