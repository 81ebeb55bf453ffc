//! What every backend promises, and the selector over it: the same bodies on each.
//!
//! Nothing here sleeps to wait for something. Waits that must end by themselves have no time-out,
//! so that a failure is a hang for the runner to end, never a pass by luck.

#![allow(clippy::unwrap_used, reason = "tests")]

/// Makes a test of each generic body, on each backend: `epoll::body`, `poll::body`…
macro_rules! on_every_backend {
    ($($body:ident)*) => {
        on_every_backend!(@ epoll Epoll $($body)*);
        on_every_backend!(@ poll Poll $($body)*);
        on_every_backend!(@ select Select $($body)*);
    };
    (@ $module:ident $backend:ident $($body:ident)*) => {
        mod $module {
            $(#[test]
            fn $body() {
                super::$body::<oxlip_selectors::backend::$module::$backend>();
            })*
        }
    };
}

mod closed;
mod fixture;
mod limits;
mod peers;
mod readiness;
mod selector;
mod waiting;
