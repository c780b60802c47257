-- How far a queue was read, and up to which number each process that sends to it was heard: see docs/queues.md.

CREATE TABLE IF NOT EXISTS audit_positions (
    queue    TEXT NOT NULL,
    part     TEXT NOT NULL,               -- '' or who sends
    value    TEXT NOT NULL,
    kept_at  TEXT NOT NULL,               -- YYYY-MM-DDTHH:MM:SS.ffffffZ
    PRIMARY KEY (queue, part)
);
