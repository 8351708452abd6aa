"""A payment is made once, though the link is cut after any byte of the request or of its reply."""

import attrs
import pytest
import trio

from trio_hub import Connection, RequestFailed, Router, Server
from trio_hub.testing import Direction

# -- the application ---------------------------------------------------------------------------------------------


@attrs.define
class Account:
    balance: int = 100


def make_bank(account: Account) -> Server:
    router = Router()

    @router.action("pay")
    async def pay(connection: Connection, amount: int) -> int:
        if amount > account.balance:
            raise RequestFailed(409, "no_funds", "There is not enough in the account")
        await trio.sleep(0.1)  # the database takes its time
        account.balance -= amount
        return account.balance

    return Server(router)


# -- its tests ---------------------------------------------------------------------------------------------------


@pytest.fixture
def account():
    return Account()


@pytest.fixture
def hub_server(account):
    """What `hub_world` runs."""
    return make_bank(account)


@pytest.mark.parametrize("direction", [Direction.UP, Direction.DOWN])
@pytest.mark.parametrize("size", range(80))
async def test_a_payment_is_made_once_wherever_the_link_is_cut(hub_world, account, size, direction, autojump_clock):
    async with hub_world.open_client() as client:
        client.weather.cut_after(size, direction)
        assert await client.request("pay", 30) == 70
        assert await client.request("pay", 30) == 40
        assert account.balance == 40
        assert client.weather.dials == 2


async def test_what_is_refused_is_refused_once(hub_world, account, autojump_clock):
    async with hub_world.open_client() as client:
        client.weather.cut_after(10, Direction.DOWN)  # in the midst of the refusal
        with pytest.raises(RequestFailed, match="no_funds"):
            await client.request("pay", 1000)
        assert account.balance == 100
        assert client.weather.dials == 2
