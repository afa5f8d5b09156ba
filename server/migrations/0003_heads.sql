-- Heads are stored with what makes their answers reliable and with the twin that is judged in their place. Versions from before
-- have neither; the prototype head answers until the next training.
UPDATE collection SET active_head = 0;
DELETE FROM head;
