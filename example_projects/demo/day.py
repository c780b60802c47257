"""The working day: who does what, as often as it takes, all at once.

Seeded: one day is like the other, but for the order in which the clients get their turn.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, suppress

from example_projects.demo.client import Client, Day, UnexpectedAnswerError
from example_projects.demo.desk import ADMIN, DOCTORS, NURSES, Desk, Ward
from example_projects.demo.strangers import send_hostile_headers, try_passwords

DESKS = (*DOCTORS, *NURSES, ADMIN) * 2  # everybody sits at two of them


def play(day: Day, requests: int) -> Ward:
    """Open the clinic, work at all desks at once, and return who was there."""
    ward = open_ward(day)
    share = (requests - len(day.ledger.answers)) // len(DESKS)
    with ExitStack() as opened, ThreadPoolExecutor(len(DESKS) + 2) as pool:
        names = (*DESKS, "stranger", DOCTORS[0])
        clients = [opened.enter_context(closing(Client(day, number, name))) for number, name in enumerate(names)]
        *desks, stranger, tester = clients
        working = [pool.submit(Desk(client, ward).work, share) for client in desks]
        working += [pool.submit(try_passwords, stranger), pool.submit(send_hostile_headers, tester, ward)]
        try:
            for finished in as_completed(working):
                with suppress(UnexpectedAnswerError):
                    finished.result()
        finally:
            day.over.set()
    return ward


def open_ward(day: Day) -> Ward:
    """The first doctor of the day writes down who is there."""
    ward = Ward()
    with closing(Client(day, 0, DOCTORS[0])) as client:
        desk = Desk(client, ward)
        desk.log_in()
        ward.known_best = desk.create(name="Phineas Gage", born="1823-07-09")["id"]
        for _ in range(9):
            desk.create()
    return ward
