-- The weeks whose tallies changed: how often, and the revision that the last summary was written
-- from.
CREATE TABLE inlet.tally_weeks (
    week text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    summarized bigint
) WITH (fillfactor = 50);

-- The documents of each day by the time zone under whose days they were counted.
CREATE TABLE inlet.tally_zones (
    day text COLLATE "C" NOT NULL,
    zone text COLLATE "C" NOT NULL,
    documents bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (day, zone)
) WITH (fillfactor = 50);
