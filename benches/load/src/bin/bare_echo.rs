//! The bare echo server: what the kernel alone costs.

fn main() {}
