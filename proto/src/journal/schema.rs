//! The tables of a journal, and how those of an earlier version become them.

use crate::database::Schema;

pub(super) const SCHEMA: Schema = Schema {
    what: "journal",
    version: 2,
    tables: "CREATE TABLE event (
                 sequence INTEGER PRIMARY KEY,
                 run TEXT NOT NULL, step TEXT NOT NULL, origin TEXT NOT NULL, origin_sequence INTEGER NOT NULL,
                 body TEXT NOT NULL) STRICT;
             CREATE INDEX event_step ON event (run, step, sequence);
             CREATE INDEX event_origin ON event (origin, origin_sequence);
             CREATE INDEX event_of_step ON event (step, sequence);",
    // A node's numbers are not unique: a journal that was moved away, or a machine installed anew, begins with 1 again.
    upgrades: &["ALTER TABLE event RENAME TO event_of_schema_1;
                 CREATE TABLE event (
                     sequence INTEGER PRIMARY KEY,
                     run TEXT NOT NULL, step TEXT NOT NULL, origin TEXT NOT NULL, origin_sequence INTEGER NOT NULL,
                     body TEXT NOT NULL) STRICT;
                 INSERT INTO event SELECT sequence, run, step, origin, origin_sequence, body FROM event_of_schema_1;
                 DROP TABLE event_of_schema_1;
                 CREATE INDEX event_step ON event (run, step, sequence);
                 CREATE INDEX event_origin ON event (origin, origin_sequence);
                 CREATE INDEX event_of_step ON event (step, sequence);"],
    remedy: "move {} and {}-wal away, keep them, and restart the service that writes it; then the same command goes on by \
             looking at the machines (only a reset no longer knows what was changed before)",
};
