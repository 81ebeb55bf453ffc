//! The scheduling methods and `create_task`, in CPython's fastest calling convention:
//! `METH_FASTCALL` needs no tuple where there are no arguments, and no check of `self`, which the
//! method descriptor has made already.
//!
//! `#[pymethods]` cannot say this, so these six are put on the class when the module is made.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::impl_::trampoline::get_trampoline_function;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString, PyTuple, PyType};
use pyo3::{Borrowed, ffi, intern};

use super::tasks::{self, Name};
use super::{EventLoop, schedule};
use crate::handle::Args;
use crate::methods::{self, Methods, fast_method};

type Any<'py> = Bound<'py, PyAny>;

/// Puts the methods on `class`: [`EventLoop`]'s, or one that derives from it. The interpreter calls
/// a method fastest on an object of exactly the class that has it, so each class of loops that
/// programs use gets its own.
///
/// # Errors
/// `TypeError` for any other class; out of memory.
pub(crate) fn install(class: &Bound<'_, PyType>) -> PyResult<()> {
    if !class.is_subclass_of::<EventLoop>()? {
        return Err(PyTypeError::new_err(format!(
            "a class of event loops was expected, got {}",
            class.repr()?
        )));
    }
    methods::put(class, &METHODS)?;
    remember(class);
    Ok(())
}

/// The classes whose methods were put there, which live for ever: their loops are known by sight.
static INSTALLED: [AtomicPtr<ffi::PyTypeObject>; 4] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; 4];

fn remember(class: &Bound<'_, PyType>) {
    let free = INSTALLED.iter().find(|slot| {
        let nobody = std::ptr::null_mut();
        slot.compare_exchange(
            nobody,
            class.as_type_ptr(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        )
        .is_ok()
    });
    if free.is_some() {
        std::mem::forget(class.clone());
    }
}

/// The loop, if it is of a class of ours and none that the program has derived.
#[inline]
pub(super) fn known<'a, 'py>(event_loop: &'a Any<'py>) -> Option<&'a Bound<'py, EventLoop>> {
    let class = event_loop.get_type_ptr();
    let is_known = INSTALLED
        .iter()
        .any(|known| known.load(Ordering::Relaxed) == class);
    // SAFETY: those classes derive from `EventLoop`, which `install` has checked.
    is_known.then(|| unsafe { event_loop.cast_unchecked() })
}

/// The same, if its clock and its timers are ours.
#[inline]
fn with_our_timers<'a, 'py>(event_loop: &'a Any<'py>) -> Option<&'a Bound<'py, EventLoop>> {
    known(event_loop).filter(|known| !known.get().has_own_timers())
}

/// `event_loop.time()` of any loop.
///
/// # Errors
/// Those of the method.
#[inline]
pub(crate) fn time<'py>(event_loop: &Any<'py>) -> PyResult<Any<'py>> {
    let py = event_loop.py();
    match seconds(event_loop) {
        Some(now) => Ok(PyFloat::new(py, now).into_any()),
        None => crate::ffi::call_method(intern!(py, "time"), [event_loop]),
    }
}

/// The same without an object; None if the method is to be called.
#[inline]
pub(crate) fn seconds(event_loop: &Any<'_>) -> Option<f64> {
    with_our_timers(event_loop).map(|known| schedule::now(known.get()).as_secs_f64())
}

/// The loop, if what is to run soon may go to its scheduler past `call_soon()`.
#[inline]
pub(crate) fn direct<'a, 'py>(event_loop: &'a Any<'py>) -> Option<&'a Bound<'py, EventLoop>> {
    known(event_loop).filter(|known| !known.get().has_own_soon() && !known.get().is_debug())
}

/// `event_loop.call_soon(callback, argument, context=context)` of any loop.
///
/// # Errors
/// Those of the method.
#[inline]
pub(crate) fn soon<'py>(
    event_loop: &Any<'py>,
    callback: Any<'py>,
    argument: Option<&Any<'py>>,
    context: Any<'py>,
) -> PyResult<()> {
    let py = event_loop.py();
    if let Some(known) = direct(event_loop) {
        let argument = argument.map_or(Args::None, |it| Args::One(it.clone().unbind()));
        let context = Some(context).filter(|context| !context.is_none());
        return schedule::call_soon(known, callback, argument, context).map(drop);
    }
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "context"), context)?;
    let method = event_loop.getattr(intern!(py, "call_soon"))?;
    match argument {
        Some(argument) => method.call((callback, argument), Some(&keywords)),
        None => method.call((callback,), Some(&keywords)),
    }
    .map(drop)
}

/// `event_loop.create_future()` of any loop.
///
/// # Errors
/// Those of the method.
#[inline]
pub(crate) fn create_future<'py>(event_loop: &Any<'py>) -> PyResult<Any<'py>> {
    match known(event_loop) {
        Some(known) if !known.get().has_own_futures() => super::tasks::create_future(known),
        _ => crate::ffi::call_method(intern!(event_loop.py(), "create_future"), [event_loop]),
    }
}

/// `event_loop.call_at(when, callback)` of any loop.
///
/// # Errors
/// Those of the method.
#[inline]
pub(crate) fn timer<'py>(
    event_loop: &Any<'py>,
    when: &Any<'py>,
    callback: &Any<'py>,
) -> PyResult<Any<'py>> {
    match with_our_timers(event_loop) {
        Some(known) => {
            let callback = callback.clone();
            schedule::call_at(known, when, callback, Args::None, None).map(Bound::into_any)
        }
        None => {
            let name = intern!(event_loop.py(), "call_at");
            crate::ffi::call_method(name, [event_loop, when, callback])
        }
    }
}

static METHODS: Methods<6> = Methods([
    fast_method(
        c"call_soon",
        get_trampoline_function!(fastcall_cfunction_with_keywords, call_soon),
        c"call_soon($self, /, callback, *args, context=None)\n--\n\n\
          Calls callback(*args) in the next tick, in the order of scheduling.",
    ),
    fast_method(
        c"call_soon_threadsafe",
        get_trampoline_function!(fastcall_cfunction_with_keywords, call_soon_threadsafe),
        c"call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n\
          As call_soon(), from any thread.",
    ),
    fast_method(
        c"call_later",
        get_trampoline_function!(fastcall_cfunction_with_keywords, call_later),
        c"call_later($self, /, delay, callback, *args, context=None)\n--\n\n\
          Calls callback(*args) after delay seconds, never earlier.",
    ),
    fast_method(
        c"call_at",
        get_trampoline_function!(fastcall_cfunction_with_keywords, call_at),
        c"call_at($self, /, when, callback, *args, context=None)\n--\n\n\
          Calls callback(*args) at a point of time on the clock of time(), never earlier.",
    ),
    fast_method(
        c"create_task",
        get_trampoline_function!(fastcall_cfunction_with_keywords, create_task),
        c"create_task($self, coro, *, name=None, **options)\n--\n\n\
          A task that runs the coroutine; the options are those of asyncio.Task.",
    ),
    fast_method(
        c"create_future",
        get_trampoline_function!(fastcall_cfunction_with_keywords, create_future_method),
        c"create_future($self, /)\n--\n\nA future of this loop.",
    ),
]);

/// Defines a function for [`METHODS`] around a body that gets the loop and the [`Arguments`]. It is called
/// through PyO3's trampoline, as `#[pymethods]` are: the thread is known to be attached, which costs
/// threads without a loop three calls to find out, and a panic becomes an exception.
macro_rules! fastcall {
    ($name:ident, $body:expr) => {
        unsafe fn $name(
            py: Python<'_>,
            slf: *mut ffi::PyObject,
            args: *const *mut ffi::PyObject,
            count: ffi::Py_ssize_t,
            keywords: *mut ffi::PyObject,
        ) -> PyResult<*mut ffi::PyObject> {
            // SAFETY: called by a method descriptor, which has checked `slf` and lays out the
            // rest as METH_FASTCALL says.
            unsafe { enter(py, slf, args, count, keywords, $body) }
        }
    };
}

fastcall!(call_soon, |event_loop, arguments| {
    let ([callback], rest, context) = arguments.parse(["callback"])?;
    schedule::call_soon(event_loop, callback, rest, context).map(Bound::into_any)
});

fastcall!(call_soon_threadsafe, |event_loop, arguments| {
    let ([callback], rest, context) = arguments.parse(["callback"])?;
    schedule::call_soon_threadsafe(event_loop, callback, rest, context).map(Bound::into_any)
});

fastcall!(call_later, |event_loop, arguments| {
    let ([delay, callback], rest, context) = arguments.parse(["delay", "callback"])?;
    schedule::call_later(event_loop, &delay, callback, rest, context)
});

fastcall!(call_at, |event_loop, arguments| {
    let ([when, callback], rest, context) = arguments.parse(["when", "callback"])?;
    schedule::call_at(event_loop, &when, callback, rest, context).map(Bound::into_any)
});

fastcall!(create_task, |event_loop, arguments| {
    let (coro, name, options) = arguments.parse_task()?;
    tasks::create_task(event_loop, coro, name, options)
});

fastcall!(create_future_method, |event_loop, arguments| {
    if !arguments.positional.is_empty() || arguments.names.is_some() {
        return Err(PyTypeError::new_err("create_future() takes no arguments"));
    }
    tasks::create_future(event_loop)
});

/// The arguments of one call, as the interpreter has laid them out.
struct Arguments<'a, 'py> {
    positional: &'a [Borrowed<'a, 'py, PyAny>],
    named: &'a [Borrowed<'a, 'py, PyAny>],
    names: Option<&'a Bound<'py, PyTuple>>,
    py: Python<'py>,
}

/// Runs a method's body with `slf` and the arguments made safe to use.
///
/// # Safety
/// `slf` is an [`EventLoop`], and the rest is what `METH_FASTCALL | METH_KEYWORDS` gets.
#[inline(always)]
unsafe fn enter<'py>(
    py: Python<'py>,
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'py, EventLoop>, Arguments<'_, 'py>) -> PyResult<Any<'py>>,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: `slf` is an EventLoop; `args` holds `count` positional arguments and one more
    // for each name in `keywords` (a tuple or NULL), all of them live during the call.
    // `Borrowed` is a transparent pointer.
    let (event_loop, keywords, positional, named) = unsafe {
        let keywords = Bound::from_borrowed_ptr_or_opt(py, keywords);
        let keywords = keywords.map(|names| names.cast_into_unchecked::<PyTuple>());
        let positional = count.unsigned_abs();
        let all = positional + keywords.as_ref().map_or(0, PyTupleMethods::len);
        let all = if all == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(args.cast::<Borrowed<'_, '_, PyAny>>(), all)
        };
        let (positional, named) = all.split_at(positional);
        let event_loop = Bound::from_borrowed_ptr(py, slf).cast_into_unchecked::<EventLoop>();
        (event_loop, keywords, positional, named)
    };
    let arguments = Arguments {
        positional,
        named,
        names: keywords.as_ref(),
        py,
    };
    body(&event_loop, arguments).map(Bound::into_ptr)
}

impl<'py> Arguments<'_, 'py> {
    /// The required arguments by position or name, what is left for the callback, and `context`.
    ///
    /// # Errors
    /// `TypeError` for a missing or an unknown argument, as Python words it.
    #[inline(always)]
    fn parse<const N: usize>(
        self,
        required: [&str; N],
    ) -> PyResult<([Any<'py>; N], Args, Option<Any<'py>>)> {
        if self.names.is_none()
            && let Some((first, rest)) = self.positional.split_first_chunk::<N>()
        {
            let rest = Args::new(self.py, rest)?;
            return Ok((first.each_ref().map(|it| Bound::clone(it)), rest, None));
        }
        self.parse_named(required)
    }

    /// As [`Arguments::parse`], where some have names, or are missing.
    fn parse_named<const N: usize>(
        self,
        required: [&str; N],
    ) -> PyResult<([Any<'py>; N], Args, Option<Any<'py>>)> {
        let mut found = [const { None }; N];
        for (slot, argument) in found.iter_mut().zip(self.positional) {
            *slot = Some(Bound::clone(argument));
        }
        let mut context = None;
        if let Some(names) = self.names {
            for (name, value) in names.iter().zip(self.named) {
                let name = name.cast_into::<PyString>()?;
                // As a rule the very string of the caller's code, which is interned.
                if name.is(intern!(self.py, "context")) || name == "context" {
                    context = Some(Bound::clone(value)).filter(|context| !context.is_none());
                } else if let Some(at) = required.iter().position(|known| name == *known)
                    && found[at].is_none()
                {
                    found[at] = Some(Bound::clone(value));
                } else {
                    return Err(PyTypeError::new_err(format!(
                        "got an unexpected keyword argument '{name}'"
                    )));
                }
            }
        }
        if let Some(missing) = found.iter().position(Option::is_none) {
            let missing = required[missing];
            return Err(PyTypeError::new_err(format!(
                "missing a required argument: '{missing}'"
            )));
        }
        let rest = Args::new(self.py, self.positional.get(N..).unwrap_or_default())?;
        Ok((
            found.map(|found| found.expect("checked above")),
            rest,
            context,
        ))
    }

    /// The coroutine, by position or name, the task's name, and its other options if there are any.
    ///
    /// # Errors
    /// `TypeError` for a missing argument or one too many, as Python words it.
    #[inline(always)]
    fn parse_task(self) -> PyResult<(Any<'py>, Name<'py>, Option<Bound<'py, PyDict>>)> {
        if let [_, _, ..] = self.positional {
            return Err(PyTypeError::new_err(format!(
                "create_task() takes 1 positional argument but {} were given",
                self.positional.len()
            )));
        }
        let mut coro = self.positional.first().map(|coro| Bound::clone(coro));
        let mut task_name = Name::Missing;
        let mut options = None;
        if let Some(names) = self.names {
            for (name, value) in names.iter().zip(self.named) {
                let name = name.cast_into::<PyString>()?;
                if name.is(intern!(self.py, "name")) || name == "name" {
                    task_name = Name::Given(Bound::clone(value));
                } else if name == "coro" {
                    if coro.replace(Bound::clone(value)).is_some() {
                        return Err(PyTypeError::new_err(
                            "create_task() got multiple values for argument 'coro'",
                        ));
                    }
                } else if name == "loop" {
                    return Err(PyTypeError::new_err(
                        "create_task() got an unexpected keyword argument 'loop'",
                    ));
                } else {
                    let options = options.get_or_insert_with(|| PyDict::new(self.py));
                    options.set_item(name, value)?;
                }
            }
        }
        let coro = coro.ok_or_else(|| {
            PyTypeError::new_err("create_task() missing 1 required positional argument: 'coro'")
        })?;
        Ok((coro, task_name, options))
    }
}
