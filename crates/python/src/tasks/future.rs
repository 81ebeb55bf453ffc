//! `Future`, and the methods that `Task` has as well.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::Any;
use super::base::FutureBase;
use super::core::{Core, Native, Ours};
use crate::chains::End;
use crate::counts::Kind;
use crate::loop_::EventLoop;
use crate::names;

/// As `asyncio.Future`.
#[pyclass(extends = FutureBase, subclass, frozen, module = "oxlip")]
pub(crate) struct Future {
    pub(super) core: Core,
}

impl Future {
    /// For a loop that is not in debug mode.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    pub(crate) fn make<'py>(event_loop: &Bound<'py, EventLoop>) -> PyResult<Bound<'py, Self>> {
        let owner = event_loop.clone().into_any().unbind();
        let core = Core::new(Some(owner), Kind::Future);
        Bound::new(event_loop.py(), Self { core })
    }
}

impl Ours for Future {
    fn release(&mut self, end: &End<'_>) {
        self.core.release(end);
    }

    fn core(&self) -> &Core {
        &self.core
    }

    fn speaks(object: &Bound<'_, Self>) -> bool {
        Native::of(object).with(|slots| slots.logs)
    }
}

/// The `#[pymethods]` of a class over a [`Core`]: what both have, and what is the class's own.
macro_rules! methods {
    // The attribute comes from where the class is: so do the names that it makes up.
    ($sign:tt $methods:tt $class:ident { $($own:tt)* }) => {
        $sign $methods
        impl $class {
            $($own)*

            /// The future's result; raises its exception.
            fn result<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
                Native::of(slf).result()
            }

            /// The future's exception, or None.
            fn exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
                Native::of(slf).exception()
            }

            fn done(slf: &Bound<'_, Self>) -> bool {
                Native::of(slf).with(|slots| {
                    slots.event_loop.is_some() && slots.life != crate::tasks::core::Life::Pending
                })
            }

            fn cancelled(slf: &Bound<'_, Self>) -> bool {
                Native::of(slf).with(|slots| {
                    slots.event_loop.is_some() && slots.life == crate::tasks::core::Life::Cancelled
                })
            }

            /// Has the loop call `fn(future)` when the future is done.
            #[pyo3(signature = (r#fn, /, *, context=None))]
            fn add_done_callback<'py>(
                slf: &Bound<'py, Self>,
                r#fn: Any<'py>,
                context: Option<Any<'py>>,
            ) -> PyResult<()> {
                let native = Native::of(slf);
                native.alive()?;
                native.add_done_callback(r#fn, context)
            }

            /// Undoes that; returns how often it was added.
            #[pyo3(signature = (r#fn, /))]
            fn remove_done_callback(slf: &Bound<'_, Self>, r#fn: &Any<'_>) -> PyResult<usize> {
                let native = Native::of(slf);
                native.alive()?;
                native.remove_done_callback(r#fn)
            }

            fn get_loop<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
                Native::of(slf).event_loop()
            }

            fn _make_cancelled_error<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
                Native::of(slf).make_cancelled_error()
            }

            fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
                crate::tasks::awaiting::iterate(Native::of(slf)).map(Bound::into_any)
            }

            fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
                crate::tasks::awaiting::iterate(Native::of(slf)).map(Bound::into_any)
            }

            // asyncio's attributes.

            #[getter]
            fn _loop<'py>(slf: &Bound<'py, Self>) -> Option<Any<'py>> {
                Native::of(slf).event_loop().ok()
            }

            #[getter]
            fn _state(slf: &Bound<'_, Self>) -> PyResult<&'static str> {
                let native = Native::of(slf);
                native.alive()?;
                Ok(native.with(|slots| slots.life.name()))
            }

            #[getter]
            fn _callbacks<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, pyo3::types::PyList>>> {
                let native = Native::of(slf);
                native.alive()?;
                native.callbacks()
            }

            #[getter]
            fn _result<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
                let (py, native) = (slf.py(), Native::of(slf));
                native.alive()?;
                Ok(native.with(|slots| slots.result.as_ref().map(|it| it.bind(py).clone())))
            }

            #[getter]
            fn _exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
                let (py, native) = (slf.py(), Native::of(slf));
                native.alive()?;
                Ok(native.with(|slots| {
                    let exception = slots.rare.as_ref()?.exception.as_ref()?;
                    Some(exception.bind(py).as_any().clone())
                }))
            }

            #[getter]
            fn _source_traceback<'py>(slf: &Bound<'py, Self>) -> Option<Any<'py>> {
                Native::of(slf).rare(|rare| &mut rare.source_traceback)
            }

            #[getter]
            fn _cancel_message<'py>(slf: &Bound<'py, Self>) -> Option<Any<'py>> {
                Native::of(slf).rare(|rare| &mut rare.cancel_message)
            }

            #[setter(_cancel_message)]
            fn set_cancel_message(slf: &Bound<'_, Self>, message: Option<Any<'_>>) {
                Native::of(slf).set_cancel_message(message);
            }

            #[getter]
            fn _asyncio_future_blocking(slf: &Bound<'_, Self>) -> bool {
                Native::of(slf).with(|slots| slots.event_loop.is_some() && slots.blocking)
            }

            #[setter(_asyncio_future_blocking)]
            fn set_asyncio_future_blocking(slf: &Bound<'_, Self>, blocking: &Any<'_>) -> PyResult<()> {
                let native = Native::of(slf);
                native.alive()?;
                let blocking = blocking.is_truthy()?;
                native.with(|slots| slots.blocking = blocking);
                Ok(())
            }

            #[getter]
            fn _log_traceback(slf: &Bound<'_, Self>) -> PyResult<bool> {
                let native = Native::of(slf);
                native.alive()?;
                Ok(native.with(|slots| slots.logs))
            }

            #[setter(_log_traceback)]
            fn set_log_traceback(slf: &Bound<'_, Self>, logs: &Any<'_>) -> PyResult<()> {
                if logs.is_truthy()? {
                    return Err(pyo3::exceptions::PyValueError::new_err(
                        "_log_traceback can only be set to False",
                    ));
                }
                Native::of(slf).with(|slots| slots.logs = false);
                Ok(())
            }
        }
    };
}

pub(super) use methods;

methods!(#[pymethods] Future {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, loop=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { core: Core::new(None, Kind::Future) }
    }

    #[pyo3(signature = (*, r#loop=None))]
    fn __init__<'py>(slf: &Bound<'py, Self>, r#loop: Option<Any<'py>>) -> PyResult<()> {
        Native::of(slf).init(r#loop)
    }

    /// Ends the future with a result.
    #[pyo3(signature = (result, /))]
    fn set_result<'py>(slf: &Bound<'py, Self>, result: Any<'py>) -> PyResult<()> {
        let native = Native::of(slf);
        native.alive()?;
        native.set_result(result)
    }

    /// Ends the future with an exception.
    #[pyo3(signature = (exception, /))]
    fn set_exception<'py>(slf: &Bound<'py, Self>, exception: Any<'py>) -> PyResult<()> {
        let native = Native::of(slf);
        native.alive()?;
        native.set_exception(exception)
    }

    /// Ends the future as cancelled; false if it was done.
    #[pyo3(signature = (msg=None))]
    fn cancel<'py>(slf: &Bound<'py, Self>, msg: Option<Any<'py>>) -> PyResult<bool> {
        let native = Native::of(slf);
        native.alive()?;
        native.cancel(msg)
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Native::of(slf).alive()?;
        names::FUTURE_REPR.get(slf.py())?.call1((slf,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        Native::of(slf).clear();
    }
});
