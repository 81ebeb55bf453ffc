//! `Handle` and `TimerHandle`: what `call_soon` and `call_later` return, and what a tick runs.

mod args;
mod callback;
pub(crate) mod collector;
mod freed;
mod soon;
mod spare;
mod timer;
mod turn;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

pub(crate) use args::Args;
pub(crate) use callback::format_source;
pub(crate) use soon::Handle;
pub(crate) use spare::{Lent, Spare, Used};
pub(crate) use timer::TimerHandle;

use crate::names;

/// Before there are handles.
///
/// # Errors
/// The import of asyncio fails.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    freed::install::<Handle>(py);
    freed::install::<TimerHandle>(py);
    replaced_run(py).map(drop)
}

/// asyncio's `Handle._run`, if it was Python's own when this module was imported.
static STOCK_RUN: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();

/// What a program has put in the place of `asyncio.Handle._run`, to time callbacks for instance.
///
/// # Errors
/// The import of asyncio fails.
pub(crate) fn replaced_run(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let now = names::HANDLE.get(py)?.getattr(intern!(py, "_run"))?;
    let stock = STOCK_RUN.get_or_try_init(py, || {
        // Not `__module__`, which `functools.wraps` copies.
        let home = now
            .getattr("__globals__")
            .and_then(|globals| globals.get_item("__name__"));
        let is_pythons = home
            .and_then(|name| name.eq("asyncio.events"))
            .unwrap_or(false);
        PyResult::Ok(is_pythons.then(|| now.clone().unbind()))
    })?;
    let is_stock = stock.as_ref().is_some_and(|stock| now.is(stock));
    Ok((!is_stock).then_some(now))
}
