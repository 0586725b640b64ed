"""What a function reads from its environment, validated once at cold start.

Each function declares a subclass with just the fields that it uses; a field's environment variable is its name in
upper case. There are no defaults for names of tables, buckets or secrets: a missing one stops the function at once
instead of letting it work on the wrong data.
"""

import os
from functools import lru_cache
from typing import Self

import msgspec

from gjeldsbro.errors import ConfigurationError


class Settings(msgspec.Struct, eq=False):
    """Base of every function's settings."""

    @classmethod
    def load(cls) -> Self:
        """The settings of this process.

        Raises ConfigurationError that names the missing or wrong variables, never their values.
        """
        settings: Self = _load(cls)
        return settings


@lru_cache(maxsize=None)
def _load[S: Settings](cls: type[S]) -> S:
    values, wrong = {}, []
    for field in msgspec.structs.fields(cls):
        name = field.name.upper()
        try:
            if name in os.environ:
                values[field.name] = msgspec.convert(os.environ[name], field.type, strict=False)
            elif field.required:
                wrong.append(name)
        except msgspec.ValidationError:
            wrong.append(name)
    if wrong:
        raise ConfigurationError(f"missing or wrong environment variables: {', '.join(sorted(wrong))}")
    return cls(**values)


def forget_settings() -> None:
    """Read the environment anew at the next ``load``: for tests that change it."""
    _load.cache_clear()
