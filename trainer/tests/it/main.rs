//! Training runs end to end, in the library and through the real binary.

mod cli;
mod evaluate;
mod micro;
mod resume;
