-- Erasures are counted: a mark has the number of its erasure, and documents carry the count that
-- the instance which accepted them knew. 0 for marks of binaries that did not count.
ALTER TABLE inlet.erased ADD COLUMN generation bigint NOT NULL DEFAULT 0;
CREATE INDEX erased_by_generation ON inlet.erased (generation);

-- An older binary beside this one erases without a number; this gives it the next one. All who
-- erase hold the one row of `positions`.
CREATE FUNCTION inlet.count_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (TG_OP = 'INSERT' AND new.generation = 0)
        OR (TG_OP = 'UPDATE' AND new.generation = old.generation) THEN
        SELECT 1 + greatest(max(generation), 1) INTO new.generation FROM inlet.erased;
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER count_erasure BEFORE INSERT OR UPDATE ON inlet.erased
    FOR EACH ROW EXECUTE FUNCTION inlet.count_erasure();
