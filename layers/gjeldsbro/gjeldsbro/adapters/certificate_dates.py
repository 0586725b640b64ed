"""Until when certificates are good."""

from datetime import datetime

from cryptography import x509


def good_until(pem: str) -> datetime | None:
    """When the first of the certificates in ``pem`` ends; None when it holds none that can be read.

    One that has a successor of the same name beside it does not count: a bundle holds both while an authority changes.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return None
    ends: dict[x509.Name, datetime] = {}
    for certificate in certificates:
        end = certificate.not_valid_after_utc
        ends[certificate.subject] = max(end, ends.get(certificate.subject, end))
    return min(ends.values())
