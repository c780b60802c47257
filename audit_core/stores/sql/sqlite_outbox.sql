-- Where committed events wait to be sealed: in the database that changes, in the transaction that changes it.

CREATE TABLE IF NOT EXISTS audit_outbox (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    event  TEXT NOT NULL
);
