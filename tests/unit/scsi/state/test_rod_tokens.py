"""ROD tokens as values; nodes A and B of command_bench make them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.rod_tokens import (
    LIFETIME_S,
    MAX_ENDED,
    MAX_INACTIVITY_S,
    MAX_TOKENS_PER_NEXUS,
    Extent,
    InvalidTokenOperation,
    RodToken,
    RodTokens,
    TokenError,
)
from tests.unit.scsi.command_bench import A, B

Range = tuple[int, int]


def token(number: int, nexus: Nexus = A, *extents: tuple[int, int], made_s: float = 0.0) -> RodToken:
    return RodToken(number.to_bytes(512), nexus, tuple(Extent(*each) for each in extents), 60.0, made_s, made_s)


def why(tokens: RodTokens, number: int, now_s: float = 0.0) -> TokenError | None:
    """Returns why a token is not valid any more, None when it is."""
    try:
        found = tokens.find(number.to_bytes(512), now_s)
    except InvalidTokenOperation as error:
        return TokenError(error.sense.code)
    assert found is not None
    return None


def test_a_token_is_found_by_its_bytes():
    tokens = RodTokens().with_new(token(1))
    assert tokens.find((1).to_bytes(512), 0) == token(1)
    assert tokens.find((2).to_bytes(512), 0) is None


@given(*(st.tuples(st.integers(0, 12), st.integers(1, 6)) for _ in range(3)))
def test_a_change_cancels_what_has_a_byte_of_it(
    first: tuple[int, int], second: tuple[int, int], change: tuple[int, int]
):
    """Law: a token is cancelled if and only if what is changed and what it represents share a byte."""
    tokens = RodTokens().with_new(token(1, A, first, second)).after_change([change], 0)
    changed = set(range(change[0], sum(change)))
    represented = {byte for offset, length in (first, second) for byte in range(offset, offset + length)}
    assert (why(tokens, 1) is TokenError.TOKEN_CANCELLED) == bool(changed & represented)


def test_what_is_not_changed_is_the_same_value():
    tokens = RodTokens().with_new(token(1, A, (0, 8)))
    assert tokens.after_change([(8, 8)], 0) is tokens
    assert tokens.without_expired(59) is tokens
    assert RodTokens().cancelled() == RodTokens()


@pytest.mark.clause("SPC4r37 5.17.6.7")
def test_a_token_expires_when_it_is_not_used_and_in_any_case_some_time():
    tokens = RodTokens().with_new(token(1))
    assert (why(tokens, 1, 59.9), why(tokens, 1, 60)) == (None, TokenError.TOKEN_EXPIRED)
    used = tokens.used((1).to_bytes(512), 50)
    assert (why(used, 1, 109), why(used, 1, 110)) == (None, TokenError.TOKEN_EXPIRED)
    at_last = tokens.used((1).to_bytes(512), LIFETIME_S - 1)
    assert why(at_last, 1, LIFETIME_S) is TokenError.TOKEN_EXPIRED
    assert MAX_INACTIVITY_S < LIFETIME_S


def test_expired_tokens_make_room():
    tokens = RodTokens()
    for number in range(MAX_TOKENS_PER_NEXUS):
        tokens = tokens.with_new(token(number))
    later = tokens.with_new(token(100, made_s=60))
    assert why(later, 0) is TokenError.TOKEN_EXPIRED
    assert list(later.live) == [(100).to_bytes(512)]
    sooner = tokens.with_new(token(100, made_s=59))
    assert why(sooner, 0) is TokenError.TOKEN_CANCELLED
    assert why(tokens.with_new(token(100, B)), 0) is None


@pytest.mark.clause("SPC4r37 5.17.6.7")
def test_how_tokens_have_ended_is_known_for_so_many():
    tokens = RodTokens()
    for number in range(MAX_ENDED + 1):
        tokens = tokens.with_new(token(number)).without(number.to_bytes(512))
    assert tokens.find((0).to_bytes(512), 0) is None
    assert why(tokens, 1) is why(tokens, MAX_ENDED) is TokenError.TOKEN_DELETED
    assert len(tokens.ended) == MAX_ENDED
