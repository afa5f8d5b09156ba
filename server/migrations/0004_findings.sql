-- What audits suspect, and what was done about it.
CREATE TABLE finding (
    key            INTEGER PRIMARY KEY,
    job_key        INTEGER NOT NULL REFERENCES job (key),
    collection_key INTEGER NOT NULL REFERENCES collection (key),
    -- Counts from 1 within the job, the most pressing first.
    number         INTEGER NOT NULL,
    -- mislabel, exact_duplicate, near_duplicate, outlier or leakage.
    kind           TEXT    NOT NULL,
    score          REAL    NOT NULL,
    -- Keys of the examples it is about and of those that speak for it, as JSON lists.
    examples       TEXT    NOT NULL,
    evidence       TEXT    NOT NULL,
    -- move, delete or accept; to which class.
    action         TEXT    NOT NULL,
    to_class       INTEGER REFERENCES class (key),
    -- What was done: moved, deleted or accepted; NULL while it is open.
    resolution     TEXT,
    resolved_at    TEXT,
    UNIQUE (job_key, number)
);

-- An accepted finding is not made again.
CREATE INDEX finding_accepted ON finding (collection_key, kind, examples) WHERE resolution = 'accepted';
