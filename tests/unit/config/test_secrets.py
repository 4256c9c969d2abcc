"""Accounts with their secrets; the file's own mistakes are in test_checks."""

import pytest

from iscsi_target.config.secrets import Secrets
from iscsi_target.config.tables import AuthenticationTable, Document
from iscsi_target.iscsi.chap import Authentication


@pytest.fixture
def read(tmp_path):
    """Returns the authentication that a text describes, and the mistakes in it."""

    def authentication(text):
        path = tmp_path / "config.toml"
        path.write_text(f"[discovery]\n{text}\n")
        path.chmod(0o600)
        document = Document(path)
        secrets = Secrets(document)
        found = secrets.authentication(document.single(AuthenticationTable, "discovery"), ("discovery",))
        return found, [mistake.what for mistake in (*document.mistakes, *secrets.reflections())]

    return authentication


def test_no_accounts_let_everybody_in(read):
    assert read("") == (Authentication(), [])


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_secret_of_a_file_is_its_first_line(read, tmp_path, ending):
    secret = tmp_path / "secret"
    secret.write_bytes(b"abcdefghijkl" + ending.encode())
    secret.chmod(0o600)
    found, mistakes = read('chap = [{ user = "u", secret_file = "secret" }]')
    assert (found.accounts[0].secret, mistakes) == (b"abcdefghijkl", [])


@pytest.mark.parametrize("length, wrong", [(11, True), (12, False), (255, True), (256, True)])
def test_secret_has_96_bits_or_more(read, length, wrong):
    _, mistakes = read(f'chap = [{{ user = "u", secret = "{"x" * length}" }}]')
    assert bool(mistakes) is wrong


def test_user_named_twice_is_a_mistake(read):
    account = '{ user = "u", secret = "abcdefghijkl" }'
    assert read(f"chap = [{account}, {account}]")[1] == ["is named twice"]


def test_secret_in_both_directions_is_a_mistake(read):
    text = 'chap = [{ user = "u", secret = "abcdefghijkl" }]\nmutual_chap = { user = "t", secret = "abcdefghijkl" }'
    assert read(text)[1] == ["has the same secret as an account of chap"]


def test_account_with_two_secrets_is_a_mistake(read):
    _, mistakes = read('chap = [{ user = "u", secret = "abcdefghijkl", secret_file = "f" }]')
    assert mistakes == ["has secret and secret_file"]
