//! `Handle` and `TimerHandle`: what `call_soon` and `call_later` return, and what a tick runs.

mod args;
mod callback;
pub(crate) mod collector;
mod freed;
mod soon;
mod spare;
mod timer;
mod turn;

pub(crate) use args::Args;
pub(crate) use callback::format_source;
pub(crate) use soon::Handle;
pub(crate) use spare::{Lent, Spare, Used};
pub(crate) use timer::TimerHandle;

/// Before there are handles.
pub(crate) fn install(py: pyo3::Python<'_>) {
    freed::install::<Handle>(py);
    freed::install::<TimerHandle>(py);
}
