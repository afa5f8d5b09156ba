-- The pool: images to learn from and to label. Whether an image is labelled is stored nowhere: it is, while a live example of its
-- collection has its content.

CREATE TABLE image (
    key            INTEGER PRIMARY KEY,
    -- ULID.
    id             TEXT    NOT NULL UNIQUE,
    collection_key INTEGER NOT NULL REFERENCES collection (key),
    -- As of an example: the same content is the same file.
    content_hash   TEXT    NOT NULL,
    -- NULL for an image that was given as a vector: it has no file.
    media_type     TEXT,
    created_at     TEXT    NOT NULL,
    deleted_at     TEXT,
    UNIQUE (collection_key, content_hash)
);

-- Pages and counts, without a look at the rows.
CREATE INDEX image_by_collection ON image (collection_key, key, deleted_at);

CREATE TABLE image_embedding (
    image_key   INTEGER NOT NULL REFERENCES image (key),
    encoder_key INTEGER NOT NULL REFERENCES encoder (key),
    -- 0 is the whole image; 1 and on have most of its patches hidden.
    view        INTEGER NOT NULL,
    -- Unit vector, little-endian f32.
    vector      BLOB    NOT NULL,
    PRIMARY KEY (image_key, encoder_key, view)
);

-- Is this image labelled?
CREATE INDEX example_live_content ON example (collection_key, content_hash) WHERE deleted_at IS NULL;
