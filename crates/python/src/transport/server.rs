//! The native half of `oxlip`'s `Server`: how many of its connections are open, and which.
//!
//! They are counted by the loop's thread, when a transport is made and when it lets go of its
//! descriptor. Which connections they are is rarely asked, and is found by searching all of the
//! loop's connections. So there is no list of them, from which abandoned ones would have to be
//! removed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::counts::{Counted, Kind};
use crate::loop_::EventLoop;

/// The native half of `oxlip`'s `Server`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct Server {
    /// Only the loop's thread changes it.
    attached: AtomicUsize,
    /// It no longer listens; it ends with the last connection.
    closed: AtomicBool,
    _counted: Counted,
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            attached: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            _counted: Counted::new(Kind::Server),
        }
    }

    /// The transports of its connections.
    fn _attached<'py>(
        slf: &Bound<'py, Self>,
        event_loop: &Bound<'py, EventLoop>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let py = slf.py();
        let mut all = Vec::new();
        event_loop.get().state.with(|state| {
            state
                .resources
                .for_each(|_, resource| all.extend(resource.transport(py)));
        })?;
        let is_own = |transport: &super::AnyTransport| {
            let of =
                |slots: &mut super::body::Slots| slots.server.as_ref().is_some_and(|it| it.is(slf));
            transport.bind(py).with_slots(of)
        };
        let own = all.into_iter().filter(is_own);
        Ok(own.map(|it| it.into_any().into_bound(py)).collect())
    }

    /// Notes that it no longer listens. Returns true if it has ended, because nothing is attached. Otherwise
    /// `_wakeup()` is called when the last connection is gone.
    fn _ends(&self) -> bool {
        self.closed.store(true, Ordering::Relaxed);
        self.attached.load(Ordering::Relaxed) == 0
    }
}

impl Server {
    pub(super) fn attach(&self) {
        let attached = self.attached.load(Ordering::Relaxed) + 1;
        self.attached.store(attached, Ordering::Relaxed);
    }

    /// # Errors
    /// Those of waking the ones who wait for the end.
    pub(super) fn detach(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let attached = this.attached.load(Ordering::Relaxed);
        debug_assert!(attached > 0, "a connection is detached twice");
        let attached = attached.saturating_sub(1);
        this.attached.store(attached, Ordering::Relaxed);
        if attached == 0 && this.closed.load(Ordering::Relaxed) {
            slf.call_method0(intern!(slf.py(), "_wakeup"))?;
        }
        Ok(())
    }
}
