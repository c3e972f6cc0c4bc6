"""The lineup: cancels first, the order of one order kept, and nothing sent whose order is not wanted any more."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.protocol.lineup import Entry, Lineup, Priority

CREATE, GROUP, AMEND = TxType.CREATE_ORDER, TxType.CREATE_GROUPED_ORDERS, TxType.MODIFY_ORDER
CANCEL, CANCEL_ALL, LEVERAGE = TxType.CANCEL_ORDER, TxType.CANCEL_ALL_ORDERS, TxType.UPDATE_LEVERAGE


def entries(*what: tuple[TxType, str]) -> list[Entry]:
    return [Entry(number, tx_type, order_id) for number, (tx_type, order_id) in enumerate(what)]


def lined_up(*all_of: Entry) -> Lineup[Entry]:
    lineup: Lineup[Entry] = Lineup()
    for entry in all_of:
        assert [] == lineup.put(entry)
    return lineup


def leave(lineup: Lineup[Entry], limit: int = 100) -> list[Entry]:
    """Let all out, class by class."""
    left: list[Entry] = []
    while batch := lineup.first(limit):
        left += batch
        lineup.take(batch)
    return left


def test_cancels_go_first_then_orders_then_settings_each_in_the_order_of_the_calls() -> None:
    leverage, create, amend, cancel, group, cancel_all = entries(
        (LEVERAGE, ""), (CREATE, "a"), (AMEND, "b"), (CANCEL, "c"), (GROUP, "d"), (CANCEL_ALL, "")
    )
    lineup = lined_up(leverage, create, amend, cancel, group, cancel_all)
    assert [cancel, cancel_all] == list(lineup.first(100))
    assert [cancel, cancel_all, create, amend, group, leverage] == leave(lineup)


def test_one_that_comes_back_has_its_old_place() -> None:
    first, second, third = entries((CREATE, "a"), (CREATE, "b"), (CREATE, "c"))
    lineup = lined_up(first, second)
    lineup.take([first])
    lineup.put(third)
    lineup.put(first)
    assert [first, second, third] == leave(lineup)


@pytest.mark.parametrize("kind", [CREATE, GROUP])
def test_a_cancel_ends_the_create_that_has_not_left_what_is_for_it_and_itself(kind: TxType) -> None:
    create, amend, other, cancel = entries((kind, "a"), (AMEND, "a"), (CREATE, "b"), (CANCEL, "a"))
    lineup = lined_up(create, amend, other)
    assert [create, amend, cancel] == lineup.put(cancel)
    assert [other] == leave(lineup)


def test_a_cancel_ends_an_amend_that_has_not_left_and_goes_itself() -> None:
    amend, cancel = entries((AMEND, "a"), (CANCEL, "a"))
    lineup = lined_up(amend)
    assert [amend] == lineup.put(cancel)
    assert [cancel] == leave(lineup)


def test_an_amend_that_is_asked_for_after_the_cancel_stays_behind_it() -> None:
    cancel, amend = entries((CANCEL, "a"), (AMEND, "a"))
    assert [cancel, amend] == leave(lined_up(cancel, amend))


def test_a_create_that_comes_back_after_its_cancel_ends_with_it() -> None:
    create, cancel = entries((CREATE, "a"), (CANCEL, "a"))
    lineup = lined_up(create)
    lineup.take([create])
    assert [] == lineup.put(cancel)
    assert [create, cancel] == lineup.put(create)
    assert [] == leave(lineup)


def test_a_cancel_that_comes_back_after_its_create_has_ended_ends_too() -> None:
    create, cancel = entries((CREATE, "a"), (CANCEL, "a"))
    lineup = lined_up(create)
    lineup.take([create])
    lineup.put(cancel)
    lineup.take([cancel])
    assert [create] == lineup.put(create)
    lineup.done(create)
    assert [cancel] == lineup.put(cancel)


def test_a_create_that_comes_back_after_its_cancel_is_through_ends() -> None:
    create, cancel = entries((CREATE, "a"), (CANCEL, "a"))
    lineup = lined_up(create)
    lineup.take([create])
    lineup.put(cancel)
    lineup.take([cancel])
    lineup.done(cancel)
    assert [create] == lineup.put(create)


@pytest.mark.parametrize(("market_id", "swept"), [(None, [0, 1, 2]), (1, [1]), (7, [])])
def test_a_cancel_all_ends_what_was_asked_for_before_it_in_its_market(market_id: int | None, swept: list[int]) -> None:
    lineup: Lineup[Entry] = Lineup()
    for entry in (
        Entry(0, CREATE, "a", 0),
        Entry(1, AMEND, "b", 1),
        Entry(2, GROUP, "c", 2),
        Entry(3, LEVERAGE, "", 1),
        Entry(4, CANCEL, "d", 1),
        Entry(6, CREATE, "e", 1),
    ):
        lineup.put(entry)
    assert swept == [entry.number for entry in lineup.sweep(5, market_id)]
    left = {4, 0, 1, 2, 3, 6} - set(swept)
    assert left == {entry.number for entry in leave(lineup)}


def test_what_a_cancel_all_met_on_its_way_ends_when_it_comes_back() -> None:
    create, cancel = entries((CREATE, "a"), (CANCEL, "b"))
    lineup = lined_up(create, cancel)
    lineup.take([create, cancel])
    assert [] == lineup.sweep(9, None)
    assert [create] == lineup.put(create)
    assert [] == lineup.put(cancel)


def test_clearing_ends_all_in_line_and_nothing_is_held_any_more() -> None:
    create, cancel, leverage = entries((CREATE, "a"), (CANCEL, "b"), (LEVERAGE, ""))
    lineup = lined_up(create, cancel, leverage)
    ended = lineup.clear()
    assert [create, cancel, leverage] == ended
    assert lineup.holds("a")
    for entry in ended:
        lineup.done(entry)
    assert (0, False) == (len(lineup), lineup.holds("a"))


# --- against a model that looks at everything each time --------------------------------------------------------------


@dataclass
class Model:
    """The rules of the lineup, written down without regard to how long they take."""

    line: list[int] = field(default_factory=list)
    away: set[int] = field(default_factory=set)
    kinds: dict[int, tuple[TxType, str, int]] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)  # not wanted any more

    def put(self, number: int) -> list[int]:
        """Take one into the line."""
        self.away.discard(number)
        self.line.append(number)
        kind, order_id, _ = self.kinds[number]
        if number in self.over:
            return self.end([number])
        if kind is CANCEL:
            return self.end(
                [
                    other
                    for other in (*self.line, *self.away)
                    if self.kinds[other][1] == order_id and other < number and self.kinds[other][0] is not CANCEL
                ]
            )
        return []

    def end(self, numbers: list[int]) -> list[int]:
        """End what waits of these, and what loses its point with it."""
        ended: set[int] = set()
        self.over |= set(numbers)
        for number in numbers:
            if number not in self.line:
                continue
            ended.add(number)
            if self.kinds[number][0] in (CREATE, GROUP):
                kin = {other for other in (*self.line, *self.away) if self.kinds[other][1] == self.kinds[number][1]}
                self.over |= kin
                ended |= kin & set(self.line)
        self.line = [number for number in self.line if number not in ended]
        return sorted(ended)

    def first(self, limit: int) -> list[int]:
        """Look at the most urgent."""
        ranked = sorted(self.line, key=lambda number: (self.rank(number), number))
        return [number for number in ranked if self.rank(number) == self.rank(ranked[0])][:limit]

    def rank(self, number: int) -> int:
        """Tell the class."""
        kind = self.kinds[number][0]
        return 0 if kind in (CANCEL, CANCEL_ALL) else 2 if kind is LEVERAGE else 1


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_it_does_as_the_model_does(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    lineup: Lineup[Entry] = Lineup()
    model = Model()
    everything: dict[int, Entry] = {}
    for step in range(400):
        action = chance.choice(("new", "new", "new", "take", "take", "back", "done", "sweep"))
        ended: list[Entry] = []
        expected: list[int] = []
        if action == "new":
            kind = chance.choice((CREATE, CREATE, GROUP, AMEND, CANCEL, CANCEL, CANCEL_ALL, LEVERAGE))
            order_id = f"o{chance.randrange(12)}-{step // 50}" if kind not in (CANCEL_ALL, LEVERAGE) else f"none{step}"
            known = [model.kinds[n][1] for n in model.kinds if model.kinds[n][0] in (CREATE, GROUP)]
            if kind in (CREATE, GROUP) and order_id in known:
                continue
            market = chance.randrange(3)
            everything[step] = Entry(step, kind, "" if order_id.startswith("none") else order_id, market)
            model.kinds[step] = (kind, order_id, market)
            ended, expected = lineup.put(everything[step]), model.put(step)
        elif action == "take":
            limit = chance.choice((1, 4))
            taken = lineup.first(limit)
            assert [entry.number for entry in taken] == (model.first(limit) if model.line else [])
            lineup.take(taken)
            for entry in taken:
                model.line.remove(entry.number)
                model.away.add(entry.number)
        elif action in ("back", "done") and model.away:
            number = chance.choice(sorted(model.away))
            if action == "back":
                ended, expected = lineup.put(everything[number]), model.put(number)
            else:
                lineup.done(everything[number])
                model.away.discard(number)
                del model.kinds[number]
        elif action == "sweep":
            market_id = chance.choice((None, 0, 1))
            ended = lineup.sweep(step, market_id)
            expected = model.end(
                [
                    number
                    for number in (*model.line, *model.away)
                    if model.rank(number) == 1 and market_id in (None, model.kinds[number][2])
                ]
            )
        assert expected == [entry.number for entry in ended]
        for entry in ended:
            lineup.done(entry)
            del model.kinds[entry.number]
        assert len(model.line) == len(lineup)
        assert {entry.order_id for entry in map(everything.get, (*model.line, *model.away)) if entry} - {""} == {
            entry.order_id for entry in everything.values() if entry.order_id and lineup.holds(entry.order_id)
        }


def test_every_transaction_has_a_class() -> None:
    assert {Priority.CANCEL: {CANCEL, CANCEL_ALL}, Priority.ORDER: {CREATE, GROUP, AMEND}} == {
        priority: {kind for kind in TxType if Entry(0, kind).priority is priority}
        for priority in (Priority.CANCEL, Priority.ORDER)
    }
