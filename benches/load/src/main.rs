//! The native load generator of the benchmarks.

fn main() {}
