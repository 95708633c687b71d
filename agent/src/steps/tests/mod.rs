//! What must be true of every step, whatever it does. A step joins by itself; the compiler insists on a sample.

mod hostile;
mod samples;
mod walk;
