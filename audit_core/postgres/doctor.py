"""Whether the database holds what the roles promise: found out by trying, from inside, and undone at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from audit_core.errors import ConfigurationError, Cures
from audit_core.postgres import ROLES, PostgresDatabase
from audit_core.postgres.partitions import Partitions
from audit_core.postgres.schema import check_catalog
from audit_core.postgres.sealing import LOCK_TABLE

CLOCK_SECONDS = 2.0  # by which the server's clock and ours may differ
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
    "choose an id in the outbox": "INSERT INTO audit.audit_outbox (id, event) OVERRIDING SYSTEM VALUE VALUES (7, '{}')",
    "set the outbox's sequence": "SELECT setval(pg_get_serial_sequence('audit.audit_outbox', 'id'), 1)",
    "read the trail": "SELECT FROM audit.audit_events WHERE false",
    "read the checkpoints": "SELECT FROM audit.audit_checkpoints WHERE false",
    "append to the trail": f"INSERT INTO audit.audit_events {_EVENT_COLUMNS} VALUES {_EVENT}",
    "append a checkpoint": f"INSERT INTO audit.audit_checkpoints VALUES {_CHECKPOINT}",
    "read personal values": "SELECT FROM audit.audit_private WHERE false",
    "keep a personal value": "INSERT INTO audit.audit_private VALUES (-7, '', '', '')",
    "erase personal values": "DELETE FROM audit.audit_private WHERE false",
    "change personal values": "UPDATE audit.audit_private SET value = '' WHERE false",
    "empty the personal values": "TRUNCATE audit.audit_private",
    "keep others from sealing": "SELECT FROM audit.audit_lock FOR UPDATE SKIP LOCKED",
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
        "append to the trail", "append a checkpoint", "make partitions", "keep others from sealing",
        "read personal values", "keep a personal value",
    },
    "audit_auditor": {"read the trail", "read the checkpoints", "read the outbox", "read personal values"},
    "audit_eraser": {
        "read the trail", "read the checkpoints", "append to the trail", "append a checkpoint",
        "keep others from sealing", "read personal values", "keep a personal value", "erase personal values",
    },
}  # fmt: skip
_HARMLESS = {("audit_sealer", "choose an id in the outbox")}  # it may remove what it likes there
_GRANTS = {
    "audit_outbox": {
        "audit_application": {"INSERT"}, "audit_sealer": {"SELECT", "INSERT", "DELETE"}, "audit_auditor": {"SELECT"},
    },
    "audit_events": {
        "audit_sealer": {"SELECT", "INSERT"}, "audit_auditor": {"SELECT"}, "audit_eraser": {"SELECT", "INSERT"},
    },
    "audit_checkpoints": {
        "audit_sealer": {"SELECT", "INSERT"}, "audit_auditor": {"SELECT"}, "audit_eraser": {"SELECT", "INSERT"},
    },
    "audit_private": {
        "audit_sealer": {"SELECT", "INSERT"}, "audit_auditor": {"SELECT"},
        "audit_eraser": {"SELECT", "INSERT", "DELETE"},
    },
    "audit_lock": {"audit_sealer": {"SELECT", "UPDATE"}, "audit_eraser": {"SELECT", "UPDATE"}},
    "audit_archived": {"audit_sealer": {"SELECT"}, "audit_auditor": {"SELECT"}, "audit_eraser": {"SELECT"}},
    "audit_positions": {
        "audit_sealer": {"SELECT", "INSERT", "UPDATE", "DELETE"}, "audit_auditor": {"SELECT"},
    },
    "audit_make_partitions": {"audit_sealer": {"EXECUTE"}},
}  # fmt: skip
_ACLS = """\
SELECT g.name, g.part, coalesce(r.rolname, 'PUBLIC'), array_agg(DISTINCT a.privilege_type ORDER BY a.privilege_type)
FROM (
    SELECT relname, NULL, relowner, relacl, relnamespace FROM pg_class
    UNION ALL SELECT relname, attname, relowner, attacl, relnamespace
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    UNION ALL SELECT proname, NULL, proowner, coalesce(proacl, acldefault('f', proowner)), pronamespace FROM pg_proc
    WHERE proname <> 'audit_refuse'
) AS g (name, part, owner, acl, namespace)
JOIN pg_namespace n ON n.oid = g.namespace CROSS JOIN aclexplode(g.acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname = %s AND g.name LIKE 'audit%%' AND a.grantee <> g.owner GROUP BY 1, 2, 3 ORDER BY 1, 2 NULLS FIRST, 3"""
# What no login may be at once. ADMIN alone, which whoever makes a role has of it since 16, counts as neither.
_TOGETHER = """\
SELECT m.rolname, pair.one, pair.other FROM pg_roles m, (VALUES ('audit_application', 'audit_sealer'),
    ('audit_application', 'audit_eraser'),
    ('audit_application', 'pg_read_all_data'), ('audit_application', 'pg_write_all_data'),
    ('audit_sealer', 'pg_write_all_data'), ('audit_application', %(owner)s)) AS pair (one, other)
WHERE m.rolcanlogin AND NOT m.rolsuper AND to_regrole(quote_ident(pair.one)) IS NOT NULL
AND pg_has_role(m.oid, to_regrole(quote_ident(pair.one)), %(has)s)
AND pg_has_role(m.oid, to_regrole(quote_ident(pair.other)), %(has)s) ORDER BY 1, 2, 3"""


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
        """Every check, as it is made. Raises what the database raises when it cannot be reached or has no trail."""
        if not self.database.has_table("audit_events"):
            where = f"{self.database.name} has no audit trail in schema {self.database.schema}"
            raise ConfigurationError(f"{where}: {Cures.make_tables}.")
        if not self.database.has_table(LOCK_TABLE):
            yield Check(holds=False, text="nothing can be sealed before `audit init` has made audit_lock, which is new")
        yield from self._roles()
        yield from self._triggers()
        yield from self._functions()
        yield from self._grants()
        yield from self._partitions()
        yield self._clock()
        yield from self._unprotected()

    def _roles(self) -> Iterator[Check]:
        if self.database.fetch("SELECT current_setting('transaction_read_only')::bool")[0][0]:
            text = "not tried: the roles are not tried on a standby, nor while default_transaction_read_only is on"
            yield Check(holds=True, is_note=True, text=text)
            return
        for role in ROLES:
            yield from self._role(role)

    def _role(self, role: str) -> Iterator[Check]:
        with self.database.transaction() as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                yield Check(holds=True, is_note=True, text=f"there is no role {role}: `audit init --roles` makes it")
                return
            way = self._way_to(role, connection)
            if way is None:
                text = f"not tried: {role}, which whoever is connected may not become"
                yield Check(holds=True, is_note=True, text=text)
                return
            if not self._has_grants(role, connection):
                text = f"not tried: {role} has no grants in this trail; `audit init --roles` gives it them"
                yield Check(holds=True, is_note=True, text=text)
                return
            tried = [self._try(role, way, name, connection) for name in _ATTEMPTS if (role, name) not in _HARMLESS]
            yield from (check for check in tried if not check.holds or check.is_note)
            if all(check.holds and not check.is_note for check in tried):
                may = ", ".join(sorted(_ALLOWED[role]))
                refused = len(tried) - len(_ALLOWED[role])
                yield Check(holds=True, text=f"{role} may {may}; {refused} other ways are refused")

    def _way_to(self, role: str, connection: Any) -> str | None:
        """What to run to become the role. Whoever made it may lend it to himself (since 16), until it is undone."""
        import psycopg

        become = f"SET LOCAL ROLE {role}"
        for way in (become, f"GRANT {role} TO CURRENT_USER WITH SET TRUE, INHERIT FALSE; {become}"):
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(way)
            except psycopg.Error:
                continue
            return way
        return None

    def _has_grants(self, role: str, connection: Any) -> bool:
        found = connection.execute(_ACLS, (self.database.schema,)).fetchall()
        usage = "SELECT has_schema_privilege(%s, to_regnamespace(%s), 'USAGE')"
        may_enter = connection.execute(usage, (role, f'"{self.database.schema}"')).fetchone()[0]
        return bool(may_enter) or any(grantee == role for _, _, grantee, _ in found)

    def _try(self, role: str, way: str, name: str, connection: Any) -> Check:
        import psycopg

        allowed = name in _ALLOWED[role]
        statement = _ATTEMPTS[name].replace("audit.audit_", self.database.table("audit_"))
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(f"{way}; SET LOCAL lock_timeout = '500ms'")
                connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            if str(error.diag.message_primary).endswith("is append-only"):
                return Check(holds=False, text=f"{role} could {name}, were it not for the trigger: revoke it")
            cure = "; run `audit init --roles` again" if allowed else ""
            return Check(not allowed, f"{role} cannot {name}: {error.diag.message_primary}{cure}")
        except psycopg.Error as error:
            text = f"not tried: whether {role} can {name} ({error.diag.message_primary})"
            return Check(holds=True, is_note=True, text=text)
        return Check(allowed, f"{role} can {name}")

    def _triggers(self) -> Iterator[Check]:
        """They must be on every partition: rows can be changed there, too."""
        query = (
            "SELECT c.relname, wanted.name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "CROSS JOIN (VALUES ('audit_append_only'), ('audit_no_truncate')) AS wanted (name) "
            "LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = wanted.name AND t.tgenabled IN ('O', 'A') "
            "WHERE n.nspname = %s AND (c.oid = ANY(%s::regclass[]) OR c.oid IN "
            "(SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%s))) AND t.oid IS NULL ORDER BY 1, 2"
        )
        names = [
            name
            for name in ("audit_events", "audit_checkpoints", "audit_lock", "audit_archived")
            if self.database.has_table(name)
        ]
        tables = [self.database.table(name) for name in names]
        missing = self.database.fetch(query, (self.database.schema, tables, tables[0]))
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
            cure = "run that as the owner, and drop what it does not make"
            yield Check(holds=False, text=f"{name} is not as `audit init` makes it: {cure}")
        if not changed:
            yield Check(holds=True, text="the functions are those of `audit init`")

    def _grants(self) -> Iterator[Check]:
        """Nobody but the four roles and the owner needs anything, and they nothing on a month, column or sequence."""
        is_well = True
        for table, column, grantee, privileges in self.database.fetch(_ACLS, (self.database.schema,)):
            beyond = sorted(set(privileges) - _GRANTS.get(table, {}).get(grantee, set()))
            if not beyond:
                continue
            is_well = False
            what = f"{', '.join(beyond)}{f' ({column})' if column else ''} on {table}"
            cure = "revoke it" if grantee in ROLES else "revoke it, and grant one of the roles"
            yield Check(holds=False, text=f"{grantee} has {what}: {cure}")
        if is_well:
            yield Check(holds=True, text="nobody but the owner and the four roles has a grant, and they no other")

    def _partitions(self) -> Iterator[Check]:
        partitions = Partitions(self.database)
        for text in partitions.lost():
            yield Check(holds=False, text=text.removesuffix("."))
        if not partitions.has_default():
            return
        default = self.database.table("audit_events_default")
        if not self.database.fetch("SELECT has_table_privilege(%s, 'SELECT')", (default,))[0][0]:
            yield Check(holds=True, is_note=True, text="not tried: only the owner can look into the default partition")
        elif self.database.fetch(f"SELECT EXISTS (SELECT FROM {default})")[0][0]:
            text = "events lie in the default partition: `audit partitions --from-default` gives their months one"
            yield Check(holds=True, is_note=True, text=text)
        else:
            yield Check(holds=True, text="every event lies in the partition of its month")

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
        yield from self._together()

    def _together(self) -> Iterator[Check]:
        """Logins that are two things which are kept apart for a reason."""
        query = (
            "SELECT pg_get_userbyid(relowner), current_setting('server_version_num')::int FROM pg_class "
            "WHERE oid = to_regclass(%s)"
        )
        owner, version = self.database.fetch(query, (self.database.table("audit_events"),))[0]
        has = "USAGE, SET" if version >= 160000 else "MEMBER"
        for login, one, other in self.database.fetch(_TOGETHER, {"owner": owner, "has": has}):
            if other == owner:
                yield Check(holds=False, text=f"{login} is the application and the owner of the trail at once")
            else:
                yield Check(holds=False, text=f"{login} is {one} and {other} at once: revoke one of them")
