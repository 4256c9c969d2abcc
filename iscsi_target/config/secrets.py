"""Reads CHAP secrets and judges them.

A secret of less than 96 bits is a mistake, not a warning: RFC 7143 forbids to go on with such a login unless IPsec
protects the connection, which a target cannot know. A secret that serves in both directions would let an initiator have
its own challenge answered.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from iscsi_target.config.tables import AccountTable, AuthenticationTable, Document, Key, Mistake
from iscsi_target.iscsi.chap import MIN_SECRET_BYTES, Authentication, ChapAccount

MAX_SECRET_BYTES = 255  # what CHAP implementations take; more is a wrong file
ADVISED_SECRET_BYTES = 16  # the Microsoft initiator takes 12 to 16
CHOOSE = f"choose {MIN_SECRET_BYTES} to {ADVISED_SECRET_BYTES} random characters"


class Secrets:
    """The secrets of a file; what is wrong goes to its mistakes."""

    def __init__(self, document: Document) -> None:
        self._mistakes = document.mistakes
        self._path = document.path
        self._initiators: list[tuple[Key, bytes]] = []
        self._targets: list[tuple[Key, bytes]] = []

    def authentication(self, table: AuthenticationTable, key: Key) -> Authentication:
        """Returns the accounts of a table with their secrets.

        key    where the table stands
        """
        accounts = []
        for index, account in enumerate(table.chap):
            read = self._account(account, (*key, "chap", index))
            self._initiators.append(((*key, "chap", index), read.secret))
            accounts.append(read)
        mutual = None
        if table.mutual_chap is not None:
            mutual = self._account(table.mutual_chap, (*key, "mutual_chap"))
            self._targets.append(((*key, "mutual_chap"), mutual.secret))
            if not accounts:
                what = "is of no use without chap"
                remedy = "add chap =: a target proves itself only to an initiator that does"
                self._mistakes.append(Mistake((*key, "mutual_chap"), what, remedy))
        users = [account.user for account in accounts]
        for index, user in enumerate(users):
            if user in users[:index]:
                self._mistakes.append(Mistake((*key, "chap", index, "user"), "is named twice", "drop one of them"))
        return Authentication(accounts=tuple(accounts), mutual=mutual)

    def reflections(self) -> Iterator[Mistake]:
        """Finds secrets that serve in both directions.

        Source: RFC7143 9.2.1
        """
        initiators = {secret for _, secret in self._initiators if secret}
        for key, secret in self._targets:
            if secret in initiators:
                what = "has the same secret as an account of chap"
                yield Mistake(key, what, "choose another: an initiator could have its own challenge answered")

    def _account(self, table: AccountTable, key: Key) -> ChapAccount:
        if (table.secret is None) == (table.secret_file is None):
            what = "has neither secret nor secret_file" if table.secret is None else "has secret and secret_file"
            self._mistakes.append(Mistake(key, what, "give it exactly one of them"))
            return ChapAccount(table.user, b"")
        if table.secret is not None:
            secret = table.secret.encode()
            self._warn_if_readable(self._path, (*key, "secret"))
            where = (*key, "secret")
        else:
            assert table.secret_file is not None
            where = (*key, "secret_file")
            secret = self._read(self._path.parent / table.secret_file, where)
        self._judge_length(secret, where)
        return ChapAccount(table.user, secret)

    def _read(self, path: Path, key: Key) -> bytes:
        try:
            with path.open("rb") as file:
                secret = file.read(MAX_SECRET_BYTES + 3).rstrip(b"\r\n")
        except OSError as error:
            what = f"{path}: {(error.strerror or str(error)).lower()}"
            self._mistakes.append(Mistake(key, what, "name a file that the server may read"))
            return b""
        self._warn_if_readable(path, key)
        return secret

    def _warn_if_readable(self, path: Path, key: Key) -> None:
        if path.stat().st_mode & stat.S_IROTH:
            remedy = f"chmod o= {path}"
            self._mistakes.append(Mistake(key, f"everybody may read {path}, which holds a secret", remedy, True))

    def _judge_length(self, secret: bytes, key: Key) -> None:
        if not secret:
            return
        length = f"has {len(secret)} bytes"
        if len(secret) < MIN_SECRET_BYTES:
            what = f"{length}, fewer than the {MIN_SECRET_BYTES} that RFC7143 9.2.1 demands"
            self._mistakes.append(Mistake(key, what, CHOOSE))
        elif len(secret) > MAX_SECRET_BYTES:
            self._mistakes.append(Mistake(key, f"has more than {MAX_SECRET_BYTES} bytes", CHOOSE))
        elif len(secret) > ADVISED_SECRET_BYTES:
            what = f"{length}, more than the {ADVISED_SECRET_BYTES} that the Microsoft initiator takes"
            self._mistakes.append(Mistake(key, what, CHOOSE, True))
