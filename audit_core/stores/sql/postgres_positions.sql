-- How far a queue was read, and up to which number each process that sends to it was heard: see docs/queues.md.

CREATE TABLE IF NOT EXISTS audit.audit_positions (
    queue    text NOT NULL,
    part     text NOT NULL,               -- '' or who sends
    value    text NOT NULL,
    kept_at  timestamptz NOT NULL,
    PRIMARY KEY (queue, part)
);
