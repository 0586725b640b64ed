import hmac

from hypothesis import example, given
from hypothesis import strategies as st

from gjeldsbro.domain.customer_keys import KEY_SIZE, HashKey

KEY = HashKey("1", b"k" * 32)
parts = st.lists(st.text("ab#:", max_size=3), min_size=1, max_size=3)


def test_customer_key_is_hmac_sha256():
    """The key of a customer is the HMAC-SHA256 of the number, so that other tools can compute it."""
    expected = hmac.new(KEY.secret, b"customer\x0014842249091", "sha256").digest()
    assert KEY.customer_key("14842249091") == expected
    assert len(expected) == KEY_SIZE


@example(b"k" * 64, "1")
@example(b"k" * 65, "1")
@given(st.binary(max_size=200), st.text(max_size=200))
def test_keys_of_secrets_and_texts_of_any_length(secret, text):
    """Keys shorter and longer than a block of the hash are treated as RFC 2104 says."""
    key = HashKey("1", secret)
    assert key.customer_key(text) == hmac.digest(secret, b"customer\x00" + text.encode(), "sha256")
    assert [key.customer_key(text)] == list(key.customer_keys([text]))
    assert key.account_key(text) == hmac.digest(secret, b"account\x00" + text.encode(), "sha256")


def test_another_secret_gives_other_keys():
    """Without the secret, a key says nothing."""
    assert HashKey("1", b"x" * 32).customer_key("14842249091") != KEY.customer_key("14842249091")


def test_customers_and_accounts_never_share_a_key():
    """The same text as a customer and as an account gives two keys."""
    assert KEY.customer_key("1") != KEY.account_key("1")


@given(parts, parts)
def test_parts_of_an_account_are_told_apart(first, second):
    """Different parts give different keys, even where they look alike when joined."""
    assert (KEY.account_key(*first) == KEY.account_key(*second)) == (first == second)


def test_partition_key_holds_version_and_key():
    """The key version leads, so that a change of secret can go on side by side; base64url without filling."""
    partition = KEY.partition_key(bytes(range(32)))
    assert partition == "1#AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
