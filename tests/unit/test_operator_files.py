from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gjeldsbro.domain.callers import mark_of
from gjeldsbro.domain.identity_numbers import mentions_a_person
from gjeldsbro.services.ports import Provider
from gjeldsbro_local.certificates import Authority
from gjeldsbro_operator.files import (
    InvalidFileError,
    read_institution,
    read_lender,
    read_receiver,
    read_revocation,
)
from gjeldsbro_operator.keys import private_key_fault

INSTITUTION = """\
financialInstitutionID: "920013015"
name: Testbanken AS
providers:
  - providerID: "9908:920013015"
    url: https://fi.example.no/debt-information/v1/
"""
# the same in every process: the host key stands in the names of parametrised tests
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
HOST_KEY = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
RECEIVER = f"""\
receiver: "920013015"
name: Mottakerbanken AS
onBehalfOf: ["920013015", "985815534"]
sftp:
  url: sftp://nogi@sftp.bank.no:22/debt/exchange
  hostKeys: ["{HOST_KEY}"]
  privateKeyFile: key
"""


def private_key(key, passphrase=None):
    """An OpenSSH private key file's text."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption).decode()


def written(folder, text, name="file.yaml"):
    """The path of a file with this text."""
    path = Path(folder) / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(read, *arguments, **options):
    """What a refusal says, without the file's name."""
    with pytest.raises(InvalidFileError) as refused:
        read(*arguments, **options)
    return [line.partition(": ")[2] for line in refused.value.lines]


def test_an_institution_file_becomes_an_institution(tmp_path):
    """The shortest file of the contract has the default limit; the URL loses its last slash."""
    institution = read_institution(written(tmp_path, INSTITUTION), local=False)
    assert institution.institution == "920013015"
    assert institution.max_shrink_percent == 30
    assert institution.providers == (Provider("9908:920013015", "https://fi.example.no/debt-information/v1"),)


def test_ids_without_quotes_are_read_as_text(tmp_path):
    """YAML takes an unquoted organisation number for a number; the operator means the id."""
    text = INSTITUTION.replace('"', "")
    assert read_institution(written(tmp_path, text), local=False).institution == "920013015"


def test_a_provider_may_push_only_or_have_a_whole_url(tmp_path):
    """Without a url a provider pushes only; datasetUrl may hold a query."""
    text = (
        INSTITUTION.replace("    url: https://fi.example.no/debt-information/v1/\n", "")
        + '  - {providerID: "0007:5569622441", datasetUrl: "https://fi.example.se/all?fi=1"}\n'
    )
    push_only, whole = read_institution(written(tmp_path, text), local=False).providers
    assert not push_only.delivers_datasets
    assert whole.dataset_url == "https://fi.example.se/all?fi=1"


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ('"920013015"', '"920013016"', "financialInstitutionID"),
        ('"9908:920013015"', '"9908:920013016"', "providers.0.providerID"),
        ("name: Testbanken AS", "name: ' '", "name"),
        ("name: Testbanken AS", "nmae: Testbanken AS", "nmae"),
        ("providers:", "maxShrinkPercent: 101\nproviders:", "maxShrinkPercent"),
        ("providers:", "maxShrinkPercent: '30'\nproviders:", "maxShrinkPercent"),
        ("https://", "http://", "providers.0.url"),
        ("https://", "ftp://", "providers.0.url"),
        ("https://", "https://user@", "providers.0.url"),
        ("https://fi.example.no", "https://", "providers.0.url"),
        ("/v1/", "/v1?x=1", "providers.0.url"),
        ("/v1/", "/v1/\n    caFile: nothing.pem", "providers.0.caFile"),
        ("/v1/", "/v1/\n    caFile: file.yaml", "providers.0.caFile"),
        ("providers:", "lookup: sometimes\nproviders:", "lookup"),
        ("/v1/", "/v1/\n    dataset: customers", "providers.0.dataset"),
        ("/v1/", "/v1/\n    dataset: ssn", "providers.0.dataset"),
        ("/v1/", "/v1/\n    certificates: NTRSE-5569622441", "providers.0.certificates"),
        ("/v1/", "/v1/\n    certificates: [FINA-44059]", "providers.0.certificates.0"),
        ("/v1/", "/v1/\n    certificates: [NTRNO-920013016]", "providers.0.certificates.0"),
        ("/v1/", "/v1/\n    certificates: [VATSE-1, VATSE-1]", "providers.0.certificates"),
    ],
)
def test_a_broken_rule_of_an_institution_file_is_named_with_its_place(tmp_path, before, after, place):
    """Each fault says where it is, so that the operator can mend it without guessing."""
    file = written(tmp_path, INSTITUTION.replace(before, after, 1))
    assert any(fault.startswith(f"{place}: ") for fault in faults(read_institution, file, local=False))


def test_modes_and_certificates_have_defaults_and_are_read(tmp_path):
    """Both ways of looking up and whole datasets, unless the file says otherwise."""
    institution = read_institution(written(tmp_path, INSTITUTION), local=False)
    assert institution.lookup == "both"
    assert (institution.providers[0].dataset, institution.providers[0].certificates) == ("loans", ())
    text = INSTITUTION.replace("providers:", "lookup: live\nproviders:") + (
        "    dataset: ssn\n    certificates: [PSDSE-FINA-44059, NTRSE-5569622441]\n"
    )
    institution = read_institution(written(tmp_path, text), local=False)
    assert institution.lookup == "live"
    assert institution.providers[0].dataset == "ssn"
    assert institution.providers[0].certificates == ("PSDSE-FINA-44059", "NTRSE-5569622441")


@pytest.mark.parametrize(
    ("lookup", "address", "rule"),
    [
        ("both", "url: https://fi.example.no/v1", "it needs lookup: live"),
        ("stored", "url: https://fi.example.no/v1", "it needs lookup: live"),
        ("live", "datasetUrl: https://fi.example.no/all", "is fetched from url"),
        ("live", "{url: https://fi.example.no/v1, datasetUrl: https://fi.example.no/all}", "is fetched from url"),
    ],
)
def test_an_index_alone_is_for_institutions_that_are_asked(tmp_path, lookup, address, rule):
    """Of customers without loans nothing can be shown, so the institution must be asked, at an address we know."""
    text = INSTITUTION.replace("providers:", f"lookup: {lookup}\nproviders:")
    text = text.replace("url: https://fi.example.no/debt-information/v1/", address.strip("{}").replace(", ", "\n    "))
    (fault,) = faults(read_institution, written(tmp_path, f"{text}    dataset: ssn\n"), local=False)
    assert fault.startswith("providers.0.dataset: ssn is ")
    assert rule in fault


def test_a_word_that_is_not_one_of_the_choices_is_answered_with_them(tmp_path):
    """An operator sees what may stand there."""
    text = INSTITUTION.replace("providers:", "lookup: maybe\nproviders:")
    assert faults(read_institution, written(tmp_path, text), local=False) == ["lookup: must be live, stored or both"]


def test_all_faults_of_a_file_are_named_at_once(tmp_path):
    """An operator mends a file once, not once for each fault."""
    text = INSTITUTION.replace("https:", "http:").replace('"920013015"', "1", 1)
    assert len(faults(read_institution, written(tmp_path, text), local=False)) == 2


def test_one_provider_may_not_occur_twice(tmp_path):
    """A provider's dataset exists once."""
    text = INSTITUTION + '  - {providerID: "9908:920013015"}\n'
    assert "may occur once" in str(faults(read_institution, written(tmp_path, text), local=False))


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path):
    """YAML would take the last one: an institution would silently get other limits than its file seems to say."""
    text = INSTITUTION + "maxShrinkPercent: 10\nmaxShrinkPercent: 90\n"
    line = text.count("\n")
    expected = f"line {line}: maxShrinkPercent stands here for the second time"
    assert faults(read_institution, written(tmp_path, text), local=False) == [expected]


def test_a_key_of_a_nested_mapping_may_not_stand_twice(tmp_path):
    """Also in a list's entries and in quotes; the same key in two entries is no fault."""
    twice = '  - {providerID: "9990:920013015", dataset: loans, "dataset": ssn}\n'
    (fault,) = faults(read_institution, written(tmp_path, INSTITUTION + twice), local=False)
    assert fault == f"line {INSTITUTION.count('\n') + 1}: dataset stands here for the second time"
    once = '  - {providerID: "9990:920013015", dataset: loans}\n'
    assert len(read_institution(written(tmp_path, INSTITUTION + once), local=False).providers) == 2


@pytest.mark.parametrize("text", ["- a list\n", "just text", "a: [", "a: !!python/object:os.system x"])
def test_what_is_not_a_yaml_mapping_is_refused(tmp_path, text):
    """Lists, texts, broken YAML and YAML that would build objects are no institution files."""
    assert faults(read_institution, written(tmp_path, text), local=False)
    with pytest.raises(Exception, match="no file"):
        read_institution(tmp_path / "missing.yaml", local=False)


def test_plain_http_is_for_a_local_stack_only(tmp_path):
    """The simulator on loopback needs no TLS; a real institution always does."""
    file = written(tmp_path, INSTITUTION.replace("https:", "http:"))
    assert read_institution(file, local=True).providers[0].url == "http://fi.example.no/debt-information/v1"


def test_a_receiver_file_becomes_a_receiver_and_a_secret(tmp_path):
    """Credentials are read from the named files and kept apart from the record."""
    text = private_key(KEY)
    written(tmp_path, text, "key")
    described = read_receiver(written(tmp_path, RECEIVER), "stack/receiver/")
    receiver, credentials = described.receiver, described.credentials
    assert receiver.on_behalf_of == ("920013015", "985815534")
    assert receiver.secret == "stack/receiver/920013015"
    assert receiver.host_keys == (HOST_KEY,)
    assert receiver.read_back
    assert credentials == {"privateKey": text.rstrip("\n")}
    assert "PRIVATE KEY" not in repr(receiver)
    assert described.login_fingerprint is not None
    assert described.login_fingerprint.startswith("SHA256:")
    assert (described.login_until, described.host_keys_until) == (None, None)


@pytest.mark.parametrize("day", ["2027-01-31", '"2027-01-31"'])
def test_a_last_day_counts_to_its_end(tmp_path, day):
    """A day may be written as YAML's or in quotes; what is good until then is good all of that day."""
    written(tmp_path, private_key(KEY), "key")
    text = RECEIVER.replace(
        "  privateKeyFile: key\n", f"  privateKeyFile: key\n  loginValidUntil: {day}\n  hostKeysValidUntil: {day}\n"
    )
    described = read_receiver(written(tmp_path, text), "")
    assert described.login_until == described.host_keys_until == "2027-02-01T00:00:00.0000000Z"


def test_a_password_file_loses_its_line_end_only(tmp_path):
    """Editors end a file with a line end that is not part of the password; blanks may be."""
    written(tmp_path, " s3cret \n", "password")
    text = RECEIVER.replace("privateKeyFile: key", "passwordFile: password\n  readBack: false")
    described = read_receiver(written(tmp_path, text), "")
    receiver, credentials = described.receiver, described.credentials
    assert described.login_fingerprint is None
    assert credentials == {"password": " s3cret "}
    assert not receiver.read_back


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ('receiver: "920013015"', 'receiver: "920013016"', "receiver"),
        ('"985815534"', '"985815535"', "onBehalfOf.1"),
        ('"985815534"', '"920013015"', "onBehalfOf"),
        ('["920013015", "985815534"]', "[]", "onBehalfOf"),
        ("sftp://nogi@", "sftp://", "sftp.url"),
        ("sftp://nogi@", "https://nogi@", "sftp.url"),
        ("sftp://nogi@", "sftp://nogi:secret@", "sftp.url"),
        (HOST_KEY, "ssh-ed25519 AAAA", "sftp.hostKeys"),
        (f'["{HOST_KEY}"]', "[]", "sftp.hostKeys"),
        ("  privateKeyFile: key\n", "  privateKeyFile: key\n  loginValidUntil: soon\n", "sftp.loginValidUntil"),
        ("  privateKeyFile: key\n", "  privateKeyFile: key\n  hostKeysValidUntil: 2027\n", "sftp.hostKeysValidUntil"),
        ("  privateKeyFile: key\n", "", "sftp"),
        ("  privateKeyFile: key\n", "  privateKeyFile: key\n  passwordFile: key\n", "sftp"),
        ("  privateKeyFile: key\n", "  passwordFile: key\n  passphraseFile: key\n", "sftp"),
        ("privateKeyFile: key", "privateKeyFile: missing", "sftp.privateKeyFile"),
        ("privateKeyFile: key", "privateKeyFile: file.yaml", "sftp.privateKeyFile"),
    ],
)
def test_a_broken_rule_of_a_receiver_file_is_named_with_its_place(tmp_path, before, after, place):
    """A receiver that could not work is refused before anything of it is stored."""
    written(tmp_path, private_key(KEY), "key")
    found = faults(read_receiver, written(tmp_path, RECEIVER.replace(before, after, 1)), "")
    assert any(fault.startswith(f"{place}: ") for fault in found)


def test_a_private_key_is_tried_with_its_passphrase():
    """A key that cannot be opened, or that SSH does not use, is refused now and not in the night of the export."""
    closed = private_key(KEY, b"open sesame")
    assert private_key_fault(private_key(KEY), None) is None
    assert private_key_fault(private_key(rsa.generate_private_key(65537, 2048)), None) is None
    assert private_key_fault(closed, "open sesame") is None
    assert "passphraseFile" in private_key_fault(closed, None)
    assert "passphraseFile" in private_key_fault(closed, "wrong")
    assert "kind" in private_key_fault(
        dsa.generate_private_key(2048)
        .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        .decode(),
        None,
    )


def test_text_for_the_trail_may_not_mention_a_person():
    """An identity number is found in free text; the twelve digits of an AWS account are none."""
    assert mentions_a_person("asked by 179120 99997")
    assert mentions_a_person("17912099997")
    assert not mentions_a_person("arn:aws:iam::123456789012:user/kari")
    assert not mentions_a_person("institution 920013015")


LENDER = """\
lender: 920013015
name: Testbanken AS
onBehalfOf: ["985815534", "0007:5569622441"]
"""


def test_a_lender_file_becomes_a_lender(tmp_path):
    """A financial institution may look people up for what financial institutions may, unless its file says less."""
    lender = read_lender(written(tmp_path, LENDER))
    assert (lender.lender, lender.name) == ("920013015", "Testbanken AS")
    assert lender.on_behalf_of == ("985815534", "0007:5569622441")
    assert lender.purposes == ("creditApplication", "changeOfTerms", "payoutControl")
    assert lender.is_named_by("NTRNO-920013015")
    bureau = read_lender(written(tmp_path, LENDER + "purposes: [creditAssessment]\ncertificates: [PSDNO-FSA-1]\n"))
    assert bureau.purposes == ("creditAssessment",)
    assert bureau.is_named_by("PSDNO-FSA-1")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("920013015", "920013014", "lender"),
        ("Testbanken AS", '"a\\nb"', "name"),
        ('"985815534"', '"985815533"', "onBehalfOf.0"),
        ('"985815534"', '"0007:5569622441"', "onBehalfOf"),
        ("name:", "purposes: [marketing]\nname:", "purposes.0"),
        ("name:", "purposes: []\nname:", "purposes"),
        ("name:", "certificates: [920013015]\nname:", "certificates.0"),
        ("name:", "notification: none\nname:", "notification"),
    ],
)
def test_a_wrong_lender_file_is_refused_with_the_place(tmp_path, old, new, place):
    """Nobody is registered for a purpose that the law does not know, nor under a number that cannot be right."""
    (fault,) = faults(read_lender, written(tmp_path, LENDER.replace(old, new, 1)))
    assert fault.startswith(f"{place}: ")


def test_a_lender_that_no_certificate_can_name_is_refused(tmp_path):
    """A foreign number outside the registers that we know needs the certificate's own identifier beside it."""
    foreign = LENDER.replace("920013015", "0088:1234567890")
    (fault,) = faults(read_lender, written(tmp_path, foreign))
    assert "certificates" in fault
    assert read_lender(written(tmp_path, foreign + "certificates: [PSDSE-FINA-44059]\n")).lender == "0088:1234567890"


REVOCATION = "name: Authority\nissuerFile: ca.pem\nurl: http://crl.example.no/ca.crl\n"


def test_a_revocation_file_becomes_a_list_of_its_issuer(tmp_path):
    """The issuer is known by its certificate; plain http is as good as https, because lists are signed."""
    authority = Authority.create("Authority")
    written(tmp_path, authority.certificate_pem, "ca.pem")
    found = read_revocation(written(tmp_path, REVOCATION))
    assert (found.name, found.url) == ("Authority", "http://crl.example.no/ca.crl")
    assert found.certificate == authority.certificate_pem
    assert found.issuer == mark_of(authority.certificate.subject)
    assert read_revocation(written(tmp_path, REVOCATION.replace("http:", "https:"))).url.startswith("https:")


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("http:", "ldap:", "url: must be an http or https URL"),
        ("http:", "http://operator:s3cret@x/", "url: must hold neither user"),
        ("ca.pem", "missing.pem", "issuerFile: there is no file"),
        ("ca.pem", "client.pem", "issuerFile: the issuer's certificate is not that of a certificate authority"),
        ("ca.pem", "revocation.yaml", "issuerFile: the issuer's certificate is not PEM"),
        ("name: Authority", "name: ''", "name: must be one line"),
        ("url:", "address:", "url: is required"),
        ("name:", "extra: 1\nname:", "extra: is not known here"),
    ],
)
def test_a_revocation_file_is_checked_before_anything_is_fetched(tmp_path, before, after, fault):
    """Each broken rule is named with its place."""
    authority = Authority.create("Authority")
    written(tmp_path, authority.certificate_pem, "ca.pem")
    written(tmp_path, authority.issue_client("920013015").certificate_pem, "client.pem")
    file = written(tmp_path, REVOCATION.replace(before, after), "revocation.yaml")
    assert [line for line in faults(read_revocation, file) if line.startswith(fault)]
