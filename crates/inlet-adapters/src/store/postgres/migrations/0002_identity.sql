-- The identity of this store, which logs record when they release segments into it: another
-- database in its place is noticed.
CREATE TABLE inlet.identity (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL
);
INSERT INTO inlet.identity (id) VALUES (gen_random_uuid());
