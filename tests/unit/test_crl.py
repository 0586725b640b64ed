"""What is read of a revocation list, and which lists are refused."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.revocation_lists import HOUR, make_list

from gjeldsbro.adapters import crl
from gjeldsbro.adapters.crl import issuer_of, read_list
from gjeldsbro.api.identity import read_certificate
from gjeldsbro.domain.callers import mark_of
from gjeldsbro.errors import RevocationListError
from gjeldsbro_local.certificates import Authority, Issued

URL = "http://crl.example.no/ca.crl"
NOW = datetime.now(UTC).replace(microsecond=0)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@lru_cache(maxsize=None)
def authority() -> Authority:
    """The authority whose lists are read."""
    return Authority.create("Authority")


def read(data, *, now=NOW, url=URL, certificate=None):
    """Read a list as the authority's."""
    return read_list(data, certificate=certificate or authority().certificate_pem, url=url, now=now)


def point(**scope):
    """An issuingDistributionPoint of a scope, critical as RFC 5280 wants it."""
    values = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
        **scope,
    }
    return x509.IssuingDistributionPoint(**values), True


def uris(*addresses):
    """Addresses as a certificate or list names them."""
    return [x509.UniformResourceIdentifier(address) for address in addresses]


@pytest.mark.parametrize("pem", [False, True])
def test_a_list_is_read_in_both_its_forms(pem):
    """DER is what RFC 5280 wants, PEM is what some servers give: both say the same."""
    data = make_list(authority(), [7, 2**158], this_update=NOW - HOUR, next_update=NOW + HOUR, pem=pem)
    found = read(data)
    assert (found.this_update, found.next_update, found.serials) == (NOW - HOUR, NOW + HOUR, (7, 2**158))
    if not pem:
        assert found.digest == sha256(data).hexdigest()


def test_a_list_without_entries_is_a_list():
    """Nothing is revoked, and that is known."""
    assert read(make_list(authority())).serials == ()


def test_an_authority_and_its_callers_have_the_same_mark():
    """A list is kept under the digest that the callers' certificates carry of their issuer."""
    client = authority().issue_client("920013015").certificate
    assert issuer_of(authority().certificate_pem) == mark_of(client.issuer)


PRINTABLE, UTF8 = _ASN1Type.PrintableString, _ASN1Type.UTF8String


def named(text="Authority of Tests 3", encoding=PRINTABLE, country="NO"):
    """A distinguished name."""
    attributes = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, country),
        x509.NameAttribute(NameOID.COMMON_NAME, text, encoding),
    ]
    return x509.Name(attributes)


@pytest.mark.parametrize(
    "other",
    [
        named(),
        named(encoding=UTF8),
        named("AUTHORITY of tests 3"),
        named("  Authority  of Tests\u00a03 ", UTF8),
        named(country="no"),
    ],
)
def test_an_authority_is_the_same_however_its_name_is_encoded(other):
    """A chain with such names passes the handshake, so that its list must be found for its callers, and be its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    found = _authority_with(key, hashes.SHA256(), name=named())
    client = _authority_with(key, hashes.SHA256(), name=BANK, issuer=other, ca=False)
    caller = read_certificate(client.certificate_pem)
    assert caller.caller.issuer == issuer_of(found.certificate_pem)
    assert read(make_list(found, [1], issuer=other), certificate=found.certificate_pem).serials == (1,)


BANK = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, "NTRNO-920013015")])


def test_what_names_say_keeps_authorities_apart():
    """Another text, kind, order or grouping of attributes, and a text that looks like bytes, is another name."""
    country, text = named()
    both = x509.RelativeDistinguishedName
    unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "61")
    id_text = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"a", _ASN1Type.BitString)
    names = [
        named(),
        named("Authority of Tests 4"),
        named("AuthorityofTests3"),
        named(country="SE"),
        x509.Name([text, country]),
        x509.Name([both([country, text])]),
        x509.Name([text]),
        x509.Name([text, text]),
        x509.Name([]),
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text.value)]),
        x509.Name([unit]),
        x509.Name([id_text]),
    ]
    assert len({mark_of(name) for name in names}) == len(names)
    assert mark_of(x509.Name([both([text, country])])) == mark_of(x509.Name([both([country, text])]))


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "p384"])
def test_every_usual_kind_of_signature_is_checked(kind):
    """RSA, Ed25519 and other curves: the right key is taken, another one of its kind is not."""
    make = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]
    algorithm = None if kind == "ed25519" else hashes.SHA512()
    key = make()
    found = _authority_with(key, algorithm)
    certificate = found.certificate_pem
    assert read(make_list(found, [1], algorithm=algorithm), certificate=certificate).serials == (1,)
    with pytest.raises(RevocationListError, match="not signed with the issuer's key"):
        read(make_list(found, [1], key=make(), algorithm=algorithm), certificate=certificate)


def _authority_with(key, algorithm, *, ca=True, usage=None, name=None, issuer=None) -> Issued:
    name = name or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Another authority")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + HOUR)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    return Issued(builder.sign(key, algorithm), key)


def test_a_weak_signature_is_refused(monkeypatch):
    """MD5 and SHA-1 sign nothing any more; nothing here can make such a list, so SHA-256 plays their part."""
    assert {hashes.MD5.name, hashes.SHA1.name} == crl._WEAK_HASHES
    monkeypatch.setattr(crl, "_WEAK_HASHES", frozenset({"sha256"}))
    with pytest.raises(RevocationListError, match="MD5 or SHA-1"):
        read(make_list(authority()))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no revocation list"),
        (b"<!DOCTYPE html><html><title>404</title>", "a web page"),
        (b"\r\n  <html>", "a web page"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no revocation list"),
        (b"\x30\x82\x01\x00", "no revocation list"),
        (b"{}", "something else"),
    ],
)
def test_what_is_no_list_is_said_to_be_none(data, text):
    """Error pages with status 200, other files and broken lists."""
    with pytest.raises(RevocationListError, match=text):
        read(data)


def test_every_cut_of_a_list_is_refused():
    """A list that ends early, or goes on after its end, is none: it would be shorter than it should."""
    data = make_list(authority(), [1, 2, 3])
    for broken in (*(data[:size] for size in range(0, len(data), 7)), data + b"\x00"):
        with pytest.raises(RevocationListError):
            read(broken)


def test_a_changed_list_is_refused():
    """Whatever single byte of what was signed is changed on its way, nothing of it is believed."""
    data = make_list(authority(), [1, 2, 3])
    signed = x509.load_der_x509_crl(data).tbs_certlist_bytes
    start = data.index(signed)
    for place in range(start, start + len(signed)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(RevocationListError):
            read(bytes(changed))


BROKEN_NAME = (b"\x0c\x09Authority", b"\x03\x09\x00uthority")
"""UTF8String -> BIT STRING: cryptography parses such a list, and raises TypeError when its issuer is asked for."""


def test_a_list_whose_issuers_name_is_no_text_is_refused():
    """Before its signature is looked at, a list can be anything; whatever is raised means that it cannot be read."""
    data = make_list(authority(), [7])
    assert BROKEN_NAME[0] in data
    with pytest.raises(RevocationListError, match="cannot be read"):
        read(data.replace(*BROKEN_NAME))


REASONS = [(x509.CRLReason(x509.ReasonFlags.key_compromise), False)]
GOOD = make_list(authority(), [5, 6], entry_extensions=REASONS, extensions=[point(full_name=uris(URL))])


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.integers(0, len(GOOD) - 1), st.integers(0, 255), min_size=1, max_size=3))
def test_whatever_bytes_are_changed_a_list_is_read_or_refused(changes):
    """No change to a good list raises anything of another kind."""
    changed = bytearray(GOOD)
    for place, value in changes.items():
        changed[place] = value
    try:
        assert read(bytes(changed)).serials == (5, 6)  # the same byte, or one beside what was signed
    except RevocationListError:
        assert bytes(changed) != GOOD


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"issuer": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Somebody")])}, "another issuer's"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "not signed with the issuer's key"),
        ({"this_update": NOW + timedelta(minutes=6)}, "from the future"),
        ({"this_update": NOW - 2 * HOUR, "next_update": NOW - HOUR}, "has ended: nextUpdate 20"),
        ({"this_update": NOW, "next_update": NOW}, "ends before it begins"),
        ({"extensions": [(x509.DeltaCRLIndicator(1), True)]}, "delta"),
        ({"extensions": [(x509.DeltaCRLIndicator(1), False)]}, "delta"),
        ({"extensions": [(UNKNOWN, True)]}, r"critical extension that is not known here \(1\.2\.3\.4\)"),
        ({"extensions": [point(indirect_crl=True)]}, "indirect"),
        ({"extensions": [point(only_contains_ca_certs=True)]}, "onlyContainsCACerts"),
        ({"extensions": [point(only_contains_attribute_certs=True)]}, "onlyContainsAttributeCerts"),
        (
            {"extensions": [point(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}))]},
            "onlySomeReasons",
        ),
        (
            {
                "extensions": [
                    point(
                        relative_name=x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "part")])
                    )
                ]
            },
            "relative",
        ),
        ({"extensions": [point(full_name=uris("http://crl.example.no/part-2.crl"))]}, "but for http://crl.example"),
        ({"extensions": [point(full_name=[x509.DNSName("crl.example.no")])]}, "no web address"),
        ({"serials": [1], "entry_extensions": [(UNKNOWN, True)]}, "an entry has a critical extension"),
        (
            {
                "serials": [1],
                "entry_extensions": [
                    (x509.CertificateIssuer([x509.DirectoryName(x509.Name([]))]), True),
                ],
            },
            "an entry has a critical extension",
        ),
    ],
)
def test_a_list_that_cannot_be_relied_on_is_refused(values, text):
    """Another's, from another time, or one that speaks for a part of the certificates only: the text says which."""
    with pytest.raises(RevocationListError, match=text):
        read(make_list(authority(), values.pop("serials", ()), **values))


@pytest.mark.parametrize(
    "extension",
    [
        (x509.CRLNumber(17), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority().key.public_key()), True),
        (x509.FreshestCRL([x509.DistributionPoint(uris(URL), None, None, None)]), False),
        (UNKNOWN, False),
        point(only_contains_user_certs=True),
        point(full_name=uris("ldap://crl.example.no/", URL)),
    ],
)
def test_what_says_nothing_against_a_list_is_let_be(extension):
    """Extensions that change nothing of what is on the list, and the scope that our callers' certificates are in."""
    assert read(make_list(authority(), [1], extensions=[extension])).serials == (1,)


def test_clocks_may_differ_a_little():
    """A list a few minutes ahead of our clock is not from the future; at its nextUpdate it is still in force."""
    data = make_list(authority(), this_update=NOW + timedelta(minutes=5), next_update=NOW + HOUR)
    assert read(data).this_update == NOW + timedelta(minutes=5)
    assert read(data, now=NOW + HOUR).next_update == NOW + HOUR


@pytest.mark.parametrize("reason", [*x509.ReasonFlags])
def test_every_reason_revokes_but_the_one_that_takes_it_back(reason):
    """On hold is revoked for as long as it is on the list; removeFromCRL takes an entry back."""
    if reason is x509.ReasonFlags.unspecified:
        extensions = []
    else:
        extensions = [(x509.CRLReason(reason), False), (x509.InvalidityDate(NOW.replace(tzinfo=None)), False)]
    expected = () if reason is x509.ReasonFlags.remove_from_crl else (5,)
    assert read(make_list(authority(), [5], entry_extensions=extensions)).serials == expected


def test_only_an_authoritys_certificate_is_taken():
    """The certificate must be PEM, one, an authority's, and for signing lists where it says what it is for."""
    key = ec.generate_private_key(ec.SECP256R1())
    values = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    usage = x509.KeyUsage(**values, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False)
    own = authority().certificate_pem
    for certificate, text in (
        ("", "not PEM"),
        (own[:200], "not PEM"),
        (own + own, "not a chain"),
        (authority().issue_client("920013015").certificate_pem, "not that of a certificate authority"),
        (_authority_with(key, hashes.SHA256(), ca=None).certificate_pem, "not that of a certificate authority"),
        (_authority_with(key, hashes.SHA256(), usage=usage).certificate_pem, "cRLSign"),
    ):
        with pytest.raises(RevocationListError, match=text):
            issuer_of(certificate)
        with pytest.raises(RevocationListError, match=text):
            read(make_list(authority()), certificate=certificate or "-")
