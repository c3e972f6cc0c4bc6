"""Auth tokens: what the local venue checks of them."""

from __future__ import annotations

import pytest

from qubx_lighter.errors import VenueError
from qubx_lighter.sim.api.auth import check_token
from tests.sim.desk import ALICE, BOB, KEY, START, Desk

NOW_S = START // 10**6
HOUR = 3600
SIGNATURE = "0123456789abcdef" * 10


def token(deadline: int = NOW_S + 600, account: int = ALICE, key: int = KEY, signature: str = SIGNATURE) -> str:
    return f"{deadline}:{account}:{key}:{signature}"


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("good", [token(), token(NOW_S + 1), token(NOW_S + 8 * HOUR), token(signature="AB" * 80)])
def test_a_token_of_the_account_is_taken(desk: Desk, good: str) -> None:
    check_token(desk.engine, good, ALICE, START)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "no token"),
        ("", "no token"),
        ("nonsense", "invalid token"),
        (token(signature="ab"), "invalid token"),
        (token(signature="xy" * 80), "invalid token"),
        (token() + ":more", "invalid token"),
        (f"ro:{ALICE}:some:{NOW_S + HOUR}:abcd", "invalid token"),
        (f"ro:{ALICE}:single:{NOW_S}:abcd", "expired token"),
        (f"ro:{BOB}:single:{NOW_S + HOUR}:abcd", "of another account"),
        (f"ro:77:all:{NOW_S + HOUR}:abcd", "of another account"),
        (token(NOW_S), "expired token"),
        (token(NOW_S - HOUR), "expired token"),
        (token(NOW_S + 8 * HOUR + 1), "too far ahead"),
        (token(account=77), "api key not found"),
        (token(key=KEY + 1), "api key not found"),
        (token(account=BOB), "of another account"),
    ],
)
def test_any_other_token_is_refused(desk: Desk, bad: str | None, reason: str) -> None:
    with pytest.raises(VenueError, match=reason) as caught:
        check_token(desk.engine, bad, ALICE, START)
    assert (20013, 401) == (caught.value.code, caught.value.status)
    assert caught.value.message.startswith("invalid auth: ")


def test_a_token_of_the_same_l1_address_reads_the_sub_account(desk: Desk) -> None:
    from qubx_lighter.sim.model.commands import CreateAccount

    desk.apply(CreateAccount(500, f"0x{ALICE:040x}", 0))
    check_token(desk.engine, token(), 500, START)
    check_token(desk.engine, f"ro:{ALICE}:all:{NOW_S + 9 * HOUR}:abcd", 500, START)
    with pytest.raises(VenueError, match="of another account"):
        check_token(desk.engine, f"ro:{ALICE}:single:{NOW_S + HOUR}:abcd", 500, START)


def test_a_token_that_only_reads_is_taken_for_years(desk: Desk) -> None:
    check_token(desk.engine, f"ro:{ALICE}:single:{NOW_S + 9 * 365 * 24 * HOUR}:abcd", ALICE, START)
