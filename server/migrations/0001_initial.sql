-- The data model. Kept to what PostgreSQL also understands: types, partial unique indexes and foreign keys translate one to one.
-- Times are RFC 3339 text in UTC with milliseconds, so that they also sort as text. Keys are never reused: rows are tombstoned, not deleted.

CREATE TABLE collection (
    key         INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    -- The head version that answers; 0 is the built-in prototype head.
    active_head INTEGER NOT NULL DEFAULT 0,
    created_at  TEXT    NOT NULL
);

CREATE TABLE encoder (
    key        INTEGER PRIMARY KEY,
    -- Hash of weights, configuration and preprocessing: vectors of different encoders never meet.
    id         TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL,
    dimensions INTEGER NOT NULL,
    created_at TEXT    NOT NULL
);

CREATE TABLE class (
    key            INTEGER PRIMARY KEY,
    collection_key INTEGER NOT NULL REFERENCES collection (key),
    slug           TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    -- Counts every change to the class or its examples.
    revision       INTEGER NOT NULL,
    created_at     TEXT    NOT NULL,
    deleted_at     TEXT
);

-- A deleted class frees its slug.
CREATE UNIQUE INDEX class_live_slug ON class (collection_key, slug) WHERE deleted_at IS NULL;

CREATE TABLE example (
    key            INTEGER PRIMARY KEY,
    -- ULID.
    id             TEXT    NOT NULL UNIQUE,
    collection_key INTEGER NOT NULL REFERENCES collection (key),
    class_key      INTEGER NOT NULL REFERENCES class (key),
    -- BLAKE3 of the image (then also the name of its file) or of the vector's bytes, in hexadecimal.
    content_hash   TEXT    NOT NULL,
    -- NULL for an example that was given as a vector: it has no file.
    media_type     TEXT,
    created_at     TEXT    NOT NULL,
    deleted_at     TEXT,
    -- Adding the same content to a class again finds the row that is there, live or deleted.
    UNIQUE (class_key, content_hash)
);

CREATE INDEX example_by_collection ON example (collection_key, key);
CREATE INDEX example_by_class ON example (class_key, key);

CREATE TABLE embedding (
    example_key INTEGER NOT NULL REFERENCES example (key),
    encoder_key INTEGER NOT NULL REFERENCES encoder (key),
    -- Unit vector, little-endian f32.
    vector      BLOB    NOT NULL,
    PRIMARY KEY (example_key, encoder_key)
);

CREATE TABLE head (
    collection_key INTEGER NOT NULL REFERENCES collection (key),
    -- Counts from 1 within the collection.
    version        INTEGER NOT NULL,
    method         TEXT    NOT NULL,
    parameters     TEXT    NOT NULL,
    metrics        TEXT    NOT NULL,
    -- The version that was active when this one was fitted.
    parent         INTEGER NOT NULL,
    encoder_key    INTEGER NOT NULL REFERENCES encoder (key),
    -- JSON of the fitted head.
    weights        BLOB    NOT NULL,
    created_at     TEXT    NOT NULL,
    PRIMARY KEY (collection_key, version)
);

CREATE TABLE job (
    key              INTEGER PRIMARY KEY,
    -- ULID.
    id               TEXT    NOT NULL UNIQUE,
    collection       TEXT    NOT NULL,
    -- queued, running, succeeded, failed or cancelled.
    status           TEXT    NOT NULL,
    scope            TEXT    NOT NULL,
    method           TEXT    NOT NULL,
    -- The whole request as JSON.
    request          TEXT    NOT NULL,
    progress         REAL    NOT NULL,
    -- Not 0 once a running job has been asked to stop.
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    result           TEXT,
    error            TEXT,
    created_at       TEXT    NOT NULL,
    started_at       TEXT,
    finished_at      TEXT
);

CREATE INDEX job_by_status ON job (status, key);

CREATE TABLE job_event (
    job_key    INTEGER NOT NULL REFERENCES job (key),
    -- Counts from 1 within the job.
    sequence   INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    data       TEXT    NOT NULL,
    created_at TEXT    NOT NULL,
    PRIMARY KEY (job_key, sequence)
);

-- The history: append only, one row per change, written in the change's own transaction.
CREATE TABLE event (
    sequence       INTEGER PRIMARY KEY,
    collection_key INTEGER NOT NULL REFERENCES collection (key),
    -- collection.created, class.created, example.added, head.activated, …
    kind           TEXT    NOT NULL,
    -- What changed, as JSON.
    data           TEXT    NOT NULL,
    created_at     TEXT    NOT NULL
);

CREATE INDEX event_by_collection ON event (collection_key, sequence);
