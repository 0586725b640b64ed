"""Independent streams of random values, each named by what it decides."""

from random import Random


def stream(*parts: object) -> Random:
    """The random stream of this name: the same parts give the same values, whatever else was drawn before."""
    return Random("/".join(map(str, parts)))  # noqa: S311 - repeatable test data, nothing secret
