//! How many cases a property is tried with.

use proptest::test_runner::Config;

/// proptest's own number, or few under miri, which is some hundred times slower. No regression
/// files: a found case becomes a test with a name.
pub(crate) fn cases() -> Config {
    let cases = if cfg!(miri) {
        4
    } else {
        Config::default().cases
    };
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

/// The longest sequence of steps in a case.
#[allow(dead_code, reason = "not every property is about a sequence")]
pub(crate) const STEPS: usize = if cfg!(miri) { 20 } else { 300 };
