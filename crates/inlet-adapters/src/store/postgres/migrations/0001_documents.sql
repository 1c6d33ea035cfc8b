-- The tables of the store. Times are microseconds since 1970-01-01T00:00:00Z; texts compare by
-- their bytes. Nothing refers to anything by a foreign key: each row would be checked for it, and
-- all writing is done in transactions that hold the one row of `positions`.

-- The last position that was given out. A transaction that writes holds this row from its first
-- statement on, so documents become visible in the order of their positions.
CREATE TABLE inlet.positions (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    last bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO inlet.positions (last) VALUES (0);

CREATE TABLE inlet.documents (
    position bigint NOT NULL,
    received_us bigint NOT NULL,
    stored_us bigint NOT NULL,
    id uuid NOT NULL,
    stream text COLLATE "C" NOT NULL,
    key text COLLATE "C",
    body bytea NOT NULL,
    CONSTRAINT documents_by_id PRIMARY KEY (id)
);
CREATE UNIQUE INDEX documents_by_position ON inlet.documents (position);
CREATE INDEX documents_by_stream ON inlet.documents (stream, position);

-- For each run of 4,096 positions the earliest and latest time of reception in it, so that a time
-- range is found without an index that every insert would pay for, and though clocks jump.
CREATE TABLE inlet.spans (
    span bigint PRIMARY KEY,
    received_min_us bigint NOT NULL,
    received_max_us bigint NOT NULL
) WITH (fillfactor = 50);

-- The figures of streams.
CREATE TABLE inlet.streams (
    stream text COLLATE "C" PRIMARY KEY,
    documents bigint NOT NULL,
    bytes bigint NOT NULL,
    first_us bigint NOT NULL,
    last_us bigint NOT NULL
) WITH (fillfactor = 50);

-- One for each id and body.
CREATE TABLE inlet.dead_letters (
    position bigint PRIMARY KEY,
    id uuid NOT NULL,
    body_sha256 bytea NOT NULL,
    stream text COLLATE "C" NOT NULL,
    received_us bigint NOT NULL,
    key text COLLATE "C",
    body bytea NOT NULL,
    cause text COLLATE "C" NOT NULL,
    class text COLLATE "C" NOT NULL,
    detail text NOT NULL,
    attempts bigint NOT NULL,
    died_us bigint NOT NULL,
    redriven_us bigint,
    CONSTRAINT dead_letters_by_id UNIQUE (id, body_sha256)
);

-- Ids that were erased, and when.
CREATE TABLE inlet.erased (
    id uuid PRIMARY KEY,
    erased_us bigint NOT NULL
);

-- How far each log is stored.
CREATE TABLE inlet.cursors (
    log text COLLATE "C" PRIMARY KEY,
    segment bigint NOT NULL,
    "offset" bigint NOT NULL
) WITH (fillfactor = 50);

-- Counts a day, stream and kind: 0 stored, 1 dead (`name` is the code of the cause), 2 field
-- (`name` is its path, `type` its type).
CREATE TABLE inlet.tallies (
    day text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    documents bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (day, stream, kind, name, type)
) WITH (fillfactor = 50);
