"""Whether the database holds what the roles promise: found out by trying, from inside, and undone at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from audit_core.postgres import PostgresDatabase
from audit_core.postgres.schema import check_catalog

CLOCK_SECONDS = 2.0  # by which the server's clock and ours may differ
ROLES = ("audit_application", "audit_sealer", "audit_auditor")
_EVENT_COLUMNS = (
    "(sequence, timestamp, event_id, actor_type, action, outcome, details, private, previous_hash, event_hash)"
)
_EVENT = "(-7, '2000-01-01', gen_random_uuid(), 'system', 'audit.doctor', 'success', '{}', '', '', '')"
_CHECKPOINT = "(-7, -7, '', '', NULL, now())"

# What is tried, by a short name. Everything is rolled back.
_ATTEMPTS = {
    "add to the outbox": "INSERT INTO audit.audit_outbox (event) VALUES ('{}')",
    "read the outbox": "SELECT FROM audit.audit_outbox WHERE false",
    "remove from the outbox": "DELETE FROM audit.audit_outbox WHERE false",
    "change the outbox": "UPDATE audit.audit_outbox SET event = '' WHERE false",
    "choose a place in the outbox": "SELECT setval(pg_get_serial_sequence('audit.audit_outbox', 'id'), 1)",
    "read the trail": "SELECT FROM audit.audit_events WHERE false",
    "read the checkpoints": "SELECT FROM audit.audit_checkpoints WHERE false",
    "append to the trail": f"INSERT INTO audit.audit_events {_EVENT_COLUMNS} VALUES {_EVENT}",
    "append a checkpoint": f"INSERT INTO audit.audit_checkpoints VALUES {_CHECKPOINT}",
    "make partitions": "SELECT audit.audit_make_partitions(0)",
    "change the trail": "UPDATE audit.audit_events SET actor_id = '' WHERE false",
    "delete from the trail": "DELETE FROM audit.audit_events WHERE false",
    "empty the trail": "TRUNCATE audit.audit_events",
    "change a checkpoint": "UPDATE audit.audit_checkpoints SET root = '' WHERE false",
    "delete a checkpoint": "DELETE FROM audit.audit_checkpoints WHERE false",
    "empty the checkpoints": "TRUNCATE audit.audit_checkpoints",
    "change a partition": "UPDATE audit.audit_events_default SET actor_id = '' WHERE false",
    "delete from a partition": "DELETE FROM audit.audit_events_default WHERE false",
    "remove a trigger": "DROP TRIGGER audit_append_only ON audit.audit_events",
    "make tables beside the trail": "CREATE TABLE audit.audit_doctor ()",
}
_ALLOWED = {
    "audit_application": {"add to the outbox"},
    "audit_sealer": {
        "add to the outbox", "read the outbox", "remove from the outbox", "read the trail", "read the checkpoints",
        "append to the trail", "append a checkpoint", "make partitions",
    },
    "audit_auditor": {"read the trail", "read the checkpoints", "read the outbox"},
}  # fmt: skip


class Check(NamedTuple):
    """One thing that was looked at. What is no failure may still be worth knowing."""

    holds: bool
    text: str
    is_note: bool = False


class Doctor:
    """Examines one trail as whoever is connected: the more that is, the more can be tried."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database

    def examine(self) -> Iterator[Check]:
        """Every check, as it is made. Raises what the database raises when it cannot be reached."""
        yield from self._roles()
        yield from self._triggers()
        yield from self._functions()
        yield from self._grants()
        yield self._partitions()
        yield self._clock()
        yield from self._unprotected()

    def _roles(self) -> Iterator[Check]:
        if self.database.fetch("SELECT current_setting('transaction_read_only')::bool")[0][0]:
            text = "the roles are not tried on a standby, nor while default_transaction_read_only is on"
            yield Check(holds=True, is_note=True, text=text)
            return
        for role in ROLES:
            yield from self._role(role)

    def _role(self, role: str) -> Iterator[Check]:
        with self.database.transaction() as connection:
            member = "SELECT rolname = %s OR pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = %s"
            found = connection.execute(member, (role, role)).fetchone()
            if not found:
                yield Check(holds=True, is_note=True, text=f"there is no role {role}: `audit init --roles` makes it")
                return
            if not found[0]:
                yield Check(holds=True, is_note=True, text=f"{role} is not tried: only a member or superuser can")
                return
            wrong = [self._try(role, name, connection) for name in _ATTEMPTS]
            yield from (check for check in wrong if not check.holds)
            if all(check.holds for check in wrong):
                may = ", ".join(sorted(_ALLOWED[role]))
                yield Check(
                    holds=True, text=f"{role} may {may}; {len(wrong) - len(_ALLOWED[role])} other ways are refused"
                )

    def _try(self, role: str, name: str, connection: Any) -> Check:
        import psycopg

        allowed = name in _ALLOWED[role]
        statement = _ATTEMPTS[name].replace("audit.audit_", self.database.table("audit_"))
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(f"SET LOCAL ROLE {role}; SET LOCAL lock_timeout = '2s'; {statement}")
        except psycopg.errors.InsufficientPrivilege as error:
            if str(error.diag.message_primary).endswith("is append-only"):
                return Check(holds=False, text=f"{role} could {name}, were it not for the trigger: revoke it")
            cure = "; run `audit init --roles` again" if allowed else ""
            return Check(not allowed, f"{role} cannot {name}: {error.diag.message_primary}{cure}")
        except psycopg.Error as error:
            return Check(holds=False, text=f"{role} could not try to {name}: {error.diag.message_primary}")
        return Check(allowed, f"{role} can {name}")

    def _triggers(self) -> Iterator[Check]:
        """They must be on every partition: rows can be changed there, too."""
        query = (
            "SELECT c.relname, wanted.name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "CROSS JOIN (VALUES ('audit_append_only'), ('audit_no_truncate')) AS wanted (name) "
            "LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = wanted.name AND t.tgenabled IN ('O', 'A') "
            "WHERE n.nspname = %s AND (c.oid IN (to_regclass(%s), to_regclass(%s)) OR c.oid IN "
            "(SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%s))) AND t.oid IS NULL ORDER BY 1, 2"
        )
        events, checkpoints = map(self.database.table, ("audit_events", "audit_checkpoints"))
        missing = self.database.fetch(query, (self.database.schema, events, checkpoints, events))
        for table, name in missing:
            yield Check(holds=False, text=f"{table} has no enabled trigger {name}: its owner can change what is sealed")
        if not missing:
            yield Check(
                holds=True, text="triggers refuse UPDATE, DELETE and TRUNCATE on every partition, to the owner too"
            )

    def _functions(self) -> Iterator[Check]:
        """The sealer runs one as the owner, and the other is what refuses."""
        found = (str(line) for finding in check_catalog(self.database) for line in (finding.expected, finding.got))
        changed = sorted({line.partition(")")[0] + ")" for line in found if line.startswith("function ")})
        for name in changed:
            yield Check(holds=False, text=f"{name} is not as `audit init --sql` prints it: run that part of it again")
        if not changed:
            yield Check(holds=True, text="the functions are those of `audit init`")

    def _grants(self) -> Iterator[Check]:
        """Nobody but the three roles and the owner needs anything."""
        query = (
            "SELECT c.relname, coalesce(r.rolname, 'PUBLIC'), string_agg(a.privilege_type, ', ' ORDER BY 1) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS a "
            "LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname = %s AND c.relname LIKE 'audit%%' "
            "AND a.grantee <> c.relowner AND coalesce(r.rolname, '') <> ALL(%s) GROUP BY 1, 2 ORDER BY 1, 2"
        )
        found = self.database.fetch(query, (self.database.schema, list(ROLES)))
        for table, grantee, privileges in found:
            yield Check(
                holds=False, text=f"{grantee} has {privileges} on {table}: revoke it, and grant one of the roles"
            )
        if not found:
            yield Check(holds=True, text="nobody but the owner and the three roles has a grant on the tables")

    def _partitions(self) -> Check:
        default = self.database.table("audit_events_default")
        if not self.database.fetch("SELECT has_table_privilege(%s, 'SELECT')", (default,))[0][0]:
            return Check(holds=True, is_note=True, text="only the owner can look into the default partition")
        rows = self.database.fetch(f"SELECT EXISTS (SELECT FROM {default})")[0][0]
        if rows:
            text = "events lie in the default partition: `audit partitions --from-default` gives their months one"
            return Check(holds=True, is_note=True, text=text)
        return Check(holds=True, text="every event lies in the partition of its month")

    def _clock(self) -> Check:
        before = datetime.now(UTC)
        theirs: datetime = self.database.fetch("SELECT clock_timestamp()")[0][0]
        after = datetime.now(UTC)
        apart = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0)
        if apart > CLOCK_SECONDS:
            return Check(holds=False, text=f"the server's clock and ours are {apart:.0f} s apart: one of them is wrong")
        return Check(holds=True, text="the server's clock and ours agree")

    def _unprotected(self) -> Iterator[Check]:
        supers = [row[0] for row in self.database.fetch("SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin")]
        yield Check(
            holds=True,
            is_note=True,
            text=f"not protected from superusers ({', '.join(supers)}), nor from the owner once he drops the triggers: "
            "what they change is found by `audit verify`, with a key and a checkpoint that are kept elsewhere",
        )
        query = (
            "SELECT m.rolname FROM pg_roles m WHERE m.rolcanlogin AND NOT m.rolsuper AND "
            "pg_has_role(m.oid, 'audit_application', 'MEMBER') AND pg_has_role(m.oid, "
            "(SELECT relowner FROM pg_class WHERE oid = to_regclass(%s)), 'MEMBER')"
        )
        if self.database.fetch("SELECT to_regrole('audit_application') IS NOT NULL")[0][0]:
            for (login,) in self.database.fetch(query, (self.database.table("audit_events"),)):
                yield Check(holds=False, text=f"{login} is the application and the owner of the trail at once")
