//! The coroutine. When it is first awaited it does its work at once, if that is possible. Otherwise it waits for one
//! future, or delegates to the coroutine in Python.
//!
//! Code that asks it for more than an `await` does, for example for its frame, makes it create the coroutine in
//! Python, and it is a proxy of that one from then on.

use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyStopIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, PyTypeInfo, ffi, intern};

use super::function::PromptFunction;
use super::waiting::{self, Begun, Waiting};
use crate::awaited::{Next, told, told_by_slot};
use crate::fields::{Fields, has_fields, hold};
use crate::kept::{self, Keeps, Kept};
use crate::names;

type Any<'py> = Bound<'py, PyAny>;

/// Looks like Python's `coroutine`.
#[pyclass(frozen, weakref, name = "coroutine", module = "oxlip._native")]
pub(super) struct Coroutine {
    fields: Fields<CoroutineFields>,
}

pub(super) struct CoroutineFields {
    /// None while the object is kept for reuse.
    function: Option<Py<PromptFunction>>,
    life: Life,
    /// The garbage collector has found it in a cycle. Other finalizers may have kept it alive since.
    is_finalized: bool,
}

has_fields!(Coroutine, CoroutineFields);

enum Life {
    /// Not started.
    Fresh(Call),
    /// It is running.
    Busy,
    /// It waits for a future.
    Waits(Waiting),
    /// It delegates to the coroutine in Python.
    InPython(Py<PyAny>),
    /// It has finished without the coroutine in Python.
    Done,
}

struct Call {
    object: Py<PyAny>,
    others: Option<Py<PyTuple>>,
}

/// The same with `Bound`s, to be used and dropped.
struct Bounds<'py> {
    object: Any<'py>,
    others: Option<Bound<'py, PyTuple>>,
}

impl Call {
    fn bounds<'py>(&self, py: Python<'py>) -> Bounds<'py> {
        Bounds {
            object: self.object.bind(py).clone(),
            others: self.others.as_ref().map(|others| others.bind(py).clone()),
        }
    }

    #[inline]
    fn into_bounds(self, py: Python<'_>) -> Bounds<'_> {
        Bounds {
            object: self.object.into_bound(py),
            others: self.others.map(|others| others.into_bound(py)),
        }
    }
}

static KEPT: Kept<Coroutine> = Kept::new();

impl Keeps for Coroutine {
    fn kept() -> &'static Kept<Self> {
        &KEPT
    }

    #[inline]
    fn let_go(slf: &Bound<'_, Self>) -> bool {
        let (function, life, is_finalized) = {
            let mut this = hold(slf);
            let life = std::mem::replace(&mut this.life, Life::Done);
            (this.function.take(), life, this.is_finalized)
        };
        let py = slf.py();
        let Some(function) = function.map(|function| function.into_bound(py)) else {
            return !is_finalized;
        };
        match life {
            Life::Fresh(call) => {
                let call = call.into_bounds(py);
                if !is_finalized {
                    never_awaited(&function, &call);
                }
            }
            Life::Waits(waiting) => never_woken(&function, waiting),
            Life::InPython(coroutine) => drop(coroutine.into_bound(py)),
            Life::Busy | Life::Done => {}
        }
        !is_finalized
    }
}

impl Coroutine {
    #[inline]
    pub(super) fn make<'py>(
        function: &Bound<'py, PromptFunction>,
        object: &Any<'py>,
        others: Option<Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = function.py();
        let fields = CoroutineFields {
            function: Some(function.clone().unbind()),
            life: Life::Fresh(Call {
                object: object.clone().unbind(),
                others: others.map(Bound::unbind),
            }),
            is_finalized: false,
        };
        let made = match KEPT.next(py) {
            Some(made) => {
                // A kept object is empty, so nothing is dropped here.
                *hold(&made) = fields;
                made
            }
            None => Bound::new(
                py,
                Self {
                    fields: Fields::new(fields),
                },
            )?,
        };
        crate::ffi::follow(made.as_any());
        Ok(made)
    }

    #[inline]
    fn next<'py>(slf: &Bound<'py, Self>) -> PyResult<Next<'py>> {
        let py = slf.py();
        let life = std::mem::replace(&mut hold(slf).life, Life::Busy);
        let coroutine = match life {
            Life::Fresh(call) => {
                let call = call.into_bounds(py);
                match (Self::function(slf).get().deed().at_once)(&call.object) {
                    Ok(true) => return Self::end(slf, Ok(())),
                    Ok(false) => return Self::begin(slf, &call),
                    Err(error) => return Self::end(slf, Err(error)),
                }
            }
            Life::Waits(waiting) => {
                if waiting.is_over(py) {
                    let wait = Self::function(slf).get().wait();
                    return Self::end(slf, waiting.end(py, wait));
                }
                Self::wait_in_python(slf, waiting)?
            }
            Life::InPython(coroutine) => {
                let going_on = coroutine.bind(py).clone();
                hold(slf).life = Life::InPython(coroutine);
                going_on
            }
            Life::Busy => return Err(PyValueError::new_err("coroutine already executing")),
            Life::Done => {
                hold(slf).life = Life::Done;
                return Err(reused());
            }
        };
        crate::ffi::send_none(&coroutine)
    }

    /// Goes on after it could not be done at once.
    #[inline]
    fn begin<'py>(slf: &Bound<'py, Self>, call: &Bounds<'py>) -> PyResult<Next<'py>> {
        let coroutine = match waiting::begin(Self::function(slf).get().deed().wait, &call.object) {
            Ok(Begun::Waits(waiting, future)) => {
                hold(slf).life = Life::Waits(waiting);
                return Ok(Next::Waits(future));
            }
            Ok(Begun::InPython(coroutine)) => {
                hold(slf).life = Life::InPython(coroutine.clone().unbind());
                coroutine
            }
            Ok(Begun::Not) => Self::become_python(slf, call)?,
            Err(error) => return Self::end(slf, Err(error)),
        };
        crate::ffi::send_none(&coroutine)
    }

    /// Ends it, with its result or its error.
    #[inline]
    fn end<'py>(slf: &Bound<'py, Self>, outcome: PyResult<()>) -> PyResult<Next<'py>> {
        let py = slf.py();
        hold(slf).life = Life::Done;
        match outcome {
            Ok(()) => Ok(Next::Done(py.None().into_bound(py))),
            Err(error) => Err(no_end_of_its_own(py, error)),
        }
    }

    /// From here on it delegates to a coroutine in Python that waits.
    #[cold]
    fn wait_in_python<'py>(slf: &Bound<'py, Self>, waiting: Waiting) -> PyResult<Any<'py>> {
        let made = waiting.into_python(slf.py(), Self::function(slf).get().wait());
        Self::go_on_in(slf, &made);
        made
    }

    /// From here on it delegates to the coroutine in Python.
    #[cold]
    fn become_python<'py>(slf: &Bound<'py, Self>, call: &Bounds<'py>) -> PyResult<Any<'py>> {
        let function = Self::function(slf);
        let made = function.get().in_python(&call.object, call.others.as_ref());
        Self::go_on_in(slf, &made);
        made
    }

    fn go_on_in(slf: &Bound<'_, Self>, made: &PyResult<Any<'_>>) {
        hold(slf).life = match made {
            Ok(coroutine) => Life::InPython(coroutine.clone().unbind()),
            Err(_) => Life::Done,
        };
    }

    /// The coroutine in Python, which is made if need be. None if this one is running, or has finished without it.
    #[cold]
    fn in_python<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        let py = slf.py();
        let life = std::mem::replace(&mut hold(slf).life, Life::Busy);
        match life {
            Life::Fresh(call) => Self::become_python(slf, &call.into_bounds(py)).map(Some),
            Life::Waits(waiting) => Self::wait_in_python(slf, waiting).map(Some),
            Life::InPython(coroutine) => {
                let coroutine = coroutine.into_bound(py);
                hold(slf).life = Life::InPython(coroutine.clone().unbind());
                Ok(Some(coroutine))
            }
            Life::Busy => Ok(None),
            Life::Done => {
                hold(slf).life = Life::Done;
                Ok(None)
            }
        }
    }

    /// An attribute of the coroutine in Python; None, as for a coroutine that is over, if there is none.
    fn attribute<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Any<'py>> {
        match Self::in_python(slf)? {
            Some(coroutine) => coroutine.getattr(name),
            None => Ok(slf.py().None().into_bound(slf.py())),
        }
    }

    /// The function that made it.
    #[inline]
    fn function<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PromptFunction> {
        let this = hold(slf);
        let function = this.function.as_ref().expect("it is in use");
        function.bind(slf.py()).clone()
    }

    /// Whether it is suspended in an `await`, so that nobody else may await it.
    #[inline]
    fn is_awaited(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let coroutine = match &hold(slf).life {
            Life::InPython(coroutine) => coroutine.bind(slf.py()).clone(),
            Life::Waits(_) => return Ok(true),
            Life::Fresh(_) | Life::Busy | Life::Done => return Ok(false),
        };
        Ok(!coroutine.getattr(intern!(slf.py(), "cr_await"))?.is_none())
    }

    fn is_busy(slf: &Bound<'_, Self>) -> bool {
        matches!(hold(slf).life, Life::Busy)
    }
}

/// Warns that it was never awaited: a coroutine in Python does so when it is dropped, so one is made and dropped.
#[cold]
fn never_awaited(function: &Bound<'_, PromptFunction>, call: &Bounds<'_>) {
    let py = function.py();
    crate::ffi::beside_an_exception(py, || {
        let made = function.get().in_python(&call.object, call.others.as_ref());
        if let Err(error) = made.map(drop) {
            error.write_unraisable(py, Some(function.as_any()));
        }
    });
}

/// Closes it: a coroutine in Python is closed when it is dropped, so one is made and dropped.
#[cold]
fn never_woken(function: &Bound<'_, PromptFunction>, waiting: Waiting) {
    let py = function.py();
    crate::ffi::beside_an_exception(py, || {
        if let Err(error) = waiting.into_python(py, function.get().wait()).map(drop) {
            error.write_unraisable(py, Some(function.as_any()));
        }
    });
}

/// A `StopIteration` that the work raised must not end the coroutine, because it would pass for its result (PEP 479).
#[cold]
fn no_end_of_its_own(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let told = PyRuntimeError::new_err("coroutine raised StopIteration");
    let context = error.clone_ref(py).into_value(py);
    if let Err(error) = told.value(py).setattr(intern!(py, "__context__"), context) {
        return error;
    }
    told.set_cause(py, Some(error));
    told
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited coroutine")
}

#[pymethods]
impl Coroutine {
    /// Code that asks for its class gets Python's.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        names::COROUTINE_TYPE.get(slf.py()).cloned()
    }

    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// `__await__()` returns the object itself, so it must be an iterator; Python has a separate class for that.
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        told(Self::next(slf))
    }

    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Any<'py>) -> PyResult<Any<'py>> {
        if value.is_none() {
            return told(Self::next(slf));
        }
        match Self::in_python(slf)? {
            Some(coroutine) => coroutine.call_method1(intern!(slf.py(), "send"), (value,)),
            None if Self::is_busy(slf) => told(Self::next(slf)),
            None => Err(reused()),
        }
    }

    #[pyo3(signature = (*arguments))]
    fn throw<'py>(slf: &Bound<'py, Self>, arguments: &Bound<'py, PyTuple>) -> PyResult<Any<'py>> {
        match Self::in_python(slf)? {
            Some(coroutine) => coroutine.call_method1(intern!(slf.py(), "throw"), arguments),
            None if Self::is_busy(slf) => told(Self::next(slf)),
            None => Err(reused()),
        }
    }

    fn close<'py>(slf: &Bound<'py, Self>) -> PyResult<()> {
        match Self::in_python(slf)? {
            Some(coroutine) => coroutine.call_method0(intern!(slf.py(), "close")).map(drop),
            None if Self::is_busy(slf) => told(Self::next(slf)).map(drop),
            None => Ok(()),
        }
    }

    #[getter]
    fn __name__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Self::function(slf).getattr(intern!(slf.py(), "__name__"))
    }

    #[getter]
    fn __qualname__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Self::function(slf).getattr(intern!(slf.py(), "__qualname__"))
    }

    #[getter]
    fn cr_await<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Self::attribute(slf, intern!(slf.py(), "cr_await"))
    }

    #[getter]
    fn cr_frame<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Self::attribute(slf, intern!(slf.py(), "cr_frame"))
    }

    #[getter]
    fn cr_origin<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Self::attribute(slf, intern!(slf.py(), "cr_origin"))
    }

    #[getter]
    fn cr_code<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Self::function(slf).getattr(intern!(slf.py(), "__code__"))
    }

    #[getter]
    fn cr_running<'py>(slf: &Bound<'py, Self>) -> PyResult<bool> {
        if Self::is_busy(slf) {
            return Ok(true);
        }
        Self::attribute(slf, intern!(slf.py(), "cr_running"))?.is_truthy()
    }

    #[getter]
    fn cr_suspended<'py>(slf: &Bound<'py, Self>) -> PyResult<bool> {
        if Self::is_busy(slf) {
            return Ok(false);
        }
        Self::attribute(slf, intern!(slf.py(), "cr_suspended"))?.is_truthy()
    }

    /// Attributes that only a later Python's coroutine has, for example `cr_state` of 3.15.
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Any<'py>> {
        let py = slf.py();
        if let Some(coroutine) = Self::in_python(slf)? {
            return coroutine.getattr(name);
        }
        if py.version_info() >= (3, 15) && name == "cr_state" {
            let state = if Self::is_busy(slf) {
                intern!(py, "CORO_RUNNING")
            } else {
                intern!(py, "CORO_CLOSED")
            };
            return py.import(intern!(py, "inspect"))?.getattr(state);
        }
        Err(PyAttributeError::new_err(name.clone().unbind()))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = Self::__qualname__(slf)?;
        Ok(format!("<coroutine object {name} at {:p}>", slf.as_ptr()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |this, visit| {
            visit.call(&this.function)?;
            match &this.life {
                Life::Fresh(call) => {
                    visit.call(&call.object)?;
                    visit.call(&call.others)
                }
                Life::Waits(waiting) => waiting.visit(visit),
                Life::InPython(coroutine) => visit.call(coroutine),
                Life::Busy | Life::Done => Ok(()),
            }
        })
    }

    /// Warns of nothing: the finalizer, which runs before, has done that. The function stays, because others who
    /// still have the coroutine may ask for its name; a cycle through the function is broken by clearing its dict.
    fn __clear__(slf: &Bound<'_, Self>) {
        let _before = std::mem::replace(&mut hold(slf).life, Life::Done);
    }
}

/// Installs slots that the interpreter calls without PyO3's functions in between. To be called before objects are
/// made.
pub(super) fn export(py: Python<'_>) {
    kept::install::<Coroutine>(py);
    let class = Coroutine::type_object_raw(py);
    // SAFETY: the class's own type object, which nobody has used yet; heap types have a table of async methods. The
    // functions do what those that they replace do.
    unsafe {
        (*class).tp_iternext = Some(next_of);
        (*class).tp_finalize = Some(finalize);
        if let Some(table) = (*class).tp_as_async.as_mut() {
            table.am_await = Some(itself);
        }
    }
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with a live object of this class, which has no derived ones.
    let (py, coroutine) = unsafe {
        let py = Python::assume_attached();
        (
            py,
            Borrowed::from_ptr(py, object).cast_unchecked::<Coroutine>(),
        )
    };
    crate::ffi::without_panic(py, std::ptr::null_mut(), || {
        match Coroutine::is_awaited(&coroutine) {
            // SAFETY: a live object.
            Ok(false) => return unsafe { ffi::Py_NewRef(object) },
            Ok(true) => PyRuntimeError::new_err("coroutine is being awaited already").restore(py),
            Err(error) => error.restore(py),
        }
        std::ptr::null_mut()
    })
}

/// Called by the garbage collector for a coroutine in a cycle, before anything in the cycle is cleared. For other
/// coroutines, `let_go` does the same.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, attached, with a live object of this class, which has no derived ones.
    let (py, coroutine) = unsafe {
        let py = Python::assume_attached();
        (
            py,
            Borrowed::from_ptr(py, object).cast_unchecked::<Coroutine>(),
        )
    };
    let said = crate::ffi::without_panic(py, false, || {
        let (call, waiting) = {
            let mut this = hold(&coroutine);
            this.is_finalized = true;
            match std::mem::replace(&mut this.life, Life::Done) {
                Life::Waits(waiting) => (None, Some(waiting)),
                life => {
                    this.life = life;
                    match &this.life {
                        Life::Fresh(call) => (Some(call.bounds(py)), None),
                        _ => (None, None),
                    }
                }
            }
        };
        if let Some(call) = call {
            never_awaited(&Coroutine::function(&coroutine), &call);
        }
        if let Some(waiting) = waiting {
            never_woken(&Coroutine::function(&coroutine), waiting);
        }
        true
    });
    if !said {
        // SAFETY: attached, with an exception, and a live object.
        unsafe { ffi::PyErr_WriteUnraisable(object) };
    }
}

unsafe extern "C" fn next_of(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with a live object of this class, which has no derived ones.
    let (py, coroutine) = unsafe {
        let py = Python::assume_attached();
        (
            py,
            Borrowed::from_ptr(py, object).cast_unchecked::<Coroutine>(),
        )
    };
    crate::ffi::without_panic(py, std::ptr::null_mut(), || {
        told_by_slot(py, Coroutine::next(&coroutine))
    })
}
