//! A single-threaded event loop for Rust closures and futures.
