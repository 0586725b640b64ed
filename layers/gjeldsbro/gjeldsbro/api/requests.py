"""A request as the routes see it: caller known, body decoded and of a bearable size."""

from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gjeldsbro.api.errors import UnsupportedMediaTypeError
from gjeldsbro.domain.callers import Caller
from gjeldsbro.domain.timestamps import from_datetime, shorten
from gjeldsbro.errors import InvalidMessageError, MessageTooLargeError, Violation

MAX_BODY_BYTES = 1 << 20
"""Bytes of a body after base64 (contract)."""


@dataclass(frozen=True)
class Request:
    """A request of an authenticated caller."""

    event: dict[str, Any]
    caller: Caller
    received: datetime
    uuid: str

    def receipt(self) -> dict[str, str]:
        """SPEC 4.3: when the message was received, and what identifies it."""
        return receipt(self.received, self.uuid)

    def json_body(self) -> bytes:
        """The body, which is in UTF-8 and said to be JSON; whether it is that, the parser finds out.

        Raises UnsupportedMediaTypeError, MessageTooLargeError, or InvalidMessageError for broken base64.
        """
        _check_media_type(self._header("content-type"), self._header("content-encoding"))
        text = self.event.get("body") or ""
        if self.event.get("isBase64Encoded"):
            try:
                body = b64decode(text, validate=True)
            except ValueError:
                raise InvalidMessageError([Violation("", "the body must be valid base64")]) from None
        else:
            body = text.encode("utf-8", "surrogatepass")
        if len(body) > MAX_BODY_BYTES:
            raise MessageTooLargeError(f"a body has at most {MAX_BODY_BYTES} bytes")
        try:
            body.decode()
        except UnicodeDecodeError:  # its text would quote the body
            raise UnsupportedMediaTypeError("the body must be in UTF-8 (SPEC 3.1.3)") from None
        return body

    def _header(self, name: str) -> str:
        headers = self.event.get("headers") or {}
        return next((value for key, value in headers.items() if key.lower() == name and value), "")


def receipt(received: datetime, uuid: str) -> dict[str, str]:
    """``timestamp`` and ``uuid`` as every answer of SPEC has them, to the millisecond."""
    moment = received.replace(microsecond=received.microsecond // 1000 * 1000)
    return {"timestamp": shorten(from_datetime(moment)), "uuid": uuid}


def _check_media_type(content_type: str, content_encoding: str) -> None:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if media_type != "application/json":
        raise UnsupportedMediaTypeError("Content-Type must be application/json (SPEC 3.1.3)")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8"}:
            raise UnsupportedMediaTypeError("charset must be utf-8 (SPEC 3.1.3)")
    if content_encoding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaTypeError("the body must not be compressed: leave Content-Encoding out")
