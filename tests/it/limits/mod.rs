//! Every limit at its edge, over the wire: the last value that passes, and what is said of the next one.

mod documented;
mod lists;
mod names;
mod reads;
mod records;
