//! How a file that others write too is changed: blocks with marks, single lines, settings; and what would be different.

pub mod difference;
pub mod line_changes;
pub mod marked_block;
