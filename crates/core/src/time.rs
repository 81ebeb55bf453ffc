//! Points on the loop's clock.

use std::time::Duration;

/// A point on the clock of one driver, in whole nanoseconds since an origin that only that driver
/// knows. Only [`Time`]s of the same driver can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than anything that will happen.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the origin.
    #[must_use]
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the origin, as asyncio's `loop.time()` gives them.
    #[must_use]
    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        reason = "f64 tells nanoseconds apart for 48 days, microseconds for 136 years"
    )]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SEC
    }

    /// The earliest point that reads as `secs` or later: whoever waits for it finds
    /// `now.as_secs_f64() >= secs`, whichever way the floats were rounded. Anything before the
    /// origin is the origin, anything too far off (and NaN) is [`Time::NEVER`].
    #[must_use]
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the sign is checked"
    )]
    pub fn from_secs_f64(secs: f64) -> Self {
        if secs.is_nan() {
            return Self::NEVER;
        }
        let mut nanos = (secs * NANOS_PER_SEC).floor();
        // The product has been rounded, up or down: what the clock would read decides.
        if nanos / NANOS_PER_SEC < secs {
            nanos = nanos.next_up().ceil();
        }
        Self(nanos.max(0.0) as u64)
    }

    /// `self` plus `delay`, at most [`Time::NEVER`].
    #[must_use]
    #[inline]
    pub fn after(self, delay: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

const NANOS_PER_SEC: f64 = 1e9;
