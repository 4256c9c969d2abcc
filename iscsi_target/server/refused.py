"""What an operator is told when something that he asked a running server for is not done."""


class Refused(Exception):
    """Says why a request is not carried out, and what to do about it.

    what     what is wrong, a statement
    remedy   what to do, an imperative
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy
