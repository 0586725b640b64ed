import pytest

from gjeldsbro.domain import strict_json
from gjeldsbro.domain.rules import Rule
from gjeldsbro.errors import InvalidMessageError, Violation


def fault(body: bytes, place: str = "") -> Violation:
    """The one violation of a body."""
    with pytest.raises(InvalidMessageError) as caught:
        strict_json.parse(body, place)
    [violation] = caught.value.violations
    assert caught.value.total == 1
    return violation


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": [1, "\\u00f8", null, true]} \n', {"a": [1, "ø", None, True]}),
        ('"Lån"'.encode(), "Lån"),
        (b'"\\ud83d\\udcb3"', "💳"),
        (b'"\\\\ud800"', "\\ud800"),
        (b"-0", 0),
    ],
)
def test_well_formed_documents(body, value):
    """Ordinary JSON, whole surrogate pairs included, gives its value."""
    assert strict_json.parse(body) == value


def test_long_numbers_stay_numbers():
    """A number of a million digits is read in no time; whether it may stand there is for the field's rule to say."""
    assert not isinstance(strict_json.parse(b"9" * 1_000_000), int)
    assert strict_json.parse(b"99999999999999999999") == 99999999999999999999
    assert isinstance(strict_json.parse(b"1e5"), float)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        pytest.param(b"", Rule.JSON, id="empty"),
        pytest.param(b"{", Rule.JSON, id="cut off"),
        pytest.param(b"{} {}", Rule.JSON, id="two documents"),
        pytest.param(b"{'a': 1}", Rule.JSON, id="single quotes"),
        pytest.param(b'{"a": 1,}', Rule.JSON, id="comma at the end"),
        pytest.param(b'"a\tb"', Rule.JSON, id="control character in a string"),
        pytest.param(b"01", Rule.JSON, id="leading zero of a number"),
        pytest.param(b'{"a": NaN}', Rule.JSON, id="NaN"),
        pytest.param(b"[Infinity]", Rule.JSON, id="Infinity"),
        pytest.param(b"-Infinity", Rule.JSON, id="minus Infinity"),
        pytest.param(b'"\xff"', Rule.UTF_8, id="not UTF-8"),
        pytest.param('"Lån"'.encode("latin-1"), Rule.UTF_8, id="ISO 8859-1"),
        pytest.param(b'"\xed\xa0\x80"', Rule.UTF_8, id="surrogate in UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", Rule.UTF_8, id="byte-order mark"),
        pytest.param("{}".encode("utf-16"), Rule.UTF_8, id="UTF-16"),
        pytest.param(b"[" * 1_000_000, Rule.JSON_DEPTH, id="deep arrays"),
        pytest.param(b'{"a":' * 1_000_000, Rule.JSON_DEPTH, id="deep objects"),
        pytest.param(b'{"a": 1, "a": 1}', Rule.JSON_NAMES, id="name twice"),
        pytest.param(b'{"a": 1, "\\u0061": 1}', Rule.JSON_NAMES, id="name twice, once escaped"),
        pytest.param(b'"\\ud800"', Rule.JSON_TEXT, id="high surrogate alone"),
        pytest.param(b'"\\uDC00\\uD800"', Rule.JSON_TEXT, id="surrogates the wrong way round"),
        pytest.param(b'{"\\ud800": 1}', Rule.JSON_TEXT, id="lone surrogate in a name"),
    ],
)
def test_refused_documents(body, rule):
    """What parsers differ about is refused as a whole."""
    assert fault(body) == Violation("", rule)


def nested(levels: int, opening: bytes, closing: bytes) -> bytes:
    """So many arrays or objects, each with a neighbour, inside each other."""
    return opening * levels + b"1" + closing * levels


@pytest.mark.parametrize("brackets", [(b"[0, ", b", {}]"), (b'{"a": [], "b": ', b"}")], ids=["arrays", "objects"])
def test_a_document_has_ten_levels_at_most(brackets):
    """Also where nothing is read: the limit is the rule's, and what encloses a part of a message counts."""
    assert str(strict_json.MAX_DEPTH) in Rule.JSON_DEPTH
    strict_json.parse(nested(9, *brackets))
    strict_json.parse(nested(10, b"[", b"]"))
    assert fault(nested(11, *brackets)) == Violation("", Rule.JSON_DEPTH)
    assert fault(nested(900, *brackets)) == Violation("", Rule.JSON_DEPTH)
    strict_json.parse(nested(7, *brackets), "/customers/0")
    assert fault(nested(9, *brackets), "/customers/0") == Violation("/customers/0", Rule.JSON_DEPTH)


def test_brackets_in_texts_and_side_by_side_are_no_depth():
    """A thousand customers, or a text full of brackets, is not deep."""
    strict_json.parse(b"[" + b'[{}, "[[[[[[[[[[[[{{{{"],' * 1000 + b"0]")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"customers": [{}, {"loans": [{}, {"x": 1, "x": 2}]}]}', "/customers/1/loans/1"),
        (b'{"customers": [{}, {"loans": [{}, {"x": "\\ud800"}]}]}', "/customers/1/loans/1"),
        (b'{"customers": [{"customers": "\\ud800"}]}', "/customers/0/customers"),
        (b'{"14842249091": [{"loans": [{"x": 1, "x": 2}]}]}', ""),
        (b'{"loans": {"14842249091": {"loans": [["\\ud800"]]}}}', "/loans"),
    ],
)
def test_nearest_place(body, place):
    """The place is as near as SPEC's own names reach: any other name could be a value put in the wrong place."""
    assert fault(body).place == place
    assert fault(body, "/customers/7").place == "/customers/7" + place
