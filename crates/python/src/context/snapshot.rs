//! One copy of the current context for many handles.
//!
//! asyncio gives each handle a context of its own, copied when it is scheduled. Most callbacks
//! never change theirs, so nearly all of these copies are equal. Here handles share a [`Snapshot`]
//! that nobody ever runs in, and run one after the other in a [`Runner`], a private copy of it. A
//! callback that has changed its context, or whose context somebody else holds, keeps the copy, and
//! the next handle gets a fresh one: a program sees what asyncio would show it.
//!
//! CPython cannot say whether two contexts are equal. Its contexts point to an immutable map of
//! their variables, which copies share until one of them sets a variable: the same map means the
//! same contents. That pointer is read from the context, and the current context from the thread's
//! state. Their places are found once, by experiment ([`Layout::probe`]); where that fails, each
//! handle gets its own copy.
//!
//! Belongs to whoever holds the interpreter; a snapshot is used by one thread at a time.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{ffi, intern};

use super::{Chosen, copy, copy_current};

/// The last copy of a current context, to be handed out again while it is equal to the current one.
#[derive(Default)]
pub(crate) struct Snapshot(Option<Py<PyAny>>);

impl Snapshot {
    /// A context equal to the current one.
    ///
    /// # Errors
    /// Out of memory.
    #[inline(always)]
    pub(super) fn of_current(&mut self, py: Python<'_>) -> PyResult<Chosen> {
        if Layout::known(py).is_none() {
            return copy_current(py).map(Chosen::Own);
        }
        if let Some(last) = self.if_current(py) {
            return Ok(last);
        }
        let fresh = copy_current(py)?;
        self.0 = Some(fresh.clone_ref(py));
        Ok(Chosen::Shared(fresh))
    }

    /// The last copy, if it is equal to the current context. Runs no Python code.
    #[inline(always)]
    pub(crate) fn if_current(&self, py: Python<'_>) -> Option<Chosen> {
        let last = self.0.as_ref()?;
        let is_current = Layout::known(py)?.equals_current(last, py);
        is_current.then(|| Chosen::Shared(last.clone_ref(py)))
    }

    /// Nothing is kept alive by it any more.
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    pub(crate) fn traverse(
        &self,
        visit: &pyo3::gc::PyVisit<'_>,
    ) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.0)
    }
}

/// A private copy of a shared snapshot, in which handles run.
pub(crate) struct Runner {
    snapshot: Py<PyAny>,
    pub(crate) context: Py<PyAny>,
}

impl Runner {
    /// `last` if it is still equal to `snapshot`, else a fresh copy.
    ///
    /// # Errors
    /// Out of memory.
    #[inline(always)]
    pub(crate) fn for_snapshot(last: Option<Self>, snapshot: Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(last) = last
            && last.snapshot.is(&snapshot)
        {
            return Ok(last);
        }
        Ok(Self {
            context: copy(snapshot.py(), snapshot.as_unbound())?,
            snapshot: snapshot.unbind(),
        })
    }

    /// The runner itself, if the handle that ran in it has left no trace: it has changed nothing,
    /// and nobody refers to its context.
    #[inline(always)]
    pub(crate) fn unchanged(self, py: Python<'_>) -> Option<Self> {
        let layout = Layout::known(py)?;
        // SAFETY: a live object, read while the interpreter is attached. Without a GIL the count
        // of this thread's references may lag behind, so there each handle gets a fresh copy.
        let alone = cfg!(not(Py_GIL_DISABLED))
            && unsafe { ffi::Py_REFCNT(self.context.as_ptr()) } == 1
            && layout.variables(&self.context) == layout.variables(&self.snapshot);
        alone.then_some(self)
    }
}

type Pointer = *mut ffi::PyObject;

/// Where CPython keeps what no function of its tells: offsets in bytes.
struct Layout {
    /// Of the current context in a `PyThreadState` (cpython/pystate.h), which differs with the release.
    current: usize,
    /// Of the variables in a `contextvars.Context` (`_pycontextobject`, pycore_context.h), the same
    /// in CPython 3.7 to 3.14.
    variables: usize,
}

/// How much of a thread's state is searched: the least that any release has is 280 bytes (3.10).
const SEARCHED: usize = 256;

impl Layout {
    /// The layout, if this interpreter's is as expected.
    #[inline]
    fn known(py: Python<'_>) -> Option<&'static Self> {
        static LAYOUT: PyOnceLock<Option<Layout>> = PyOnceLock::new();
        LAYOUT
            .get_or_init(py, || Self::probe(py).unwrap_or_default())
            .as_ref()
    }

    /// Reads both pointers where it is known what they must be.
    fn probe(py: Python<'_>) -> PyResult<Option<Self>> {
        let module = py.import(intern!(py, "contextvars"))?;
        let outer = module.getattr("Context")?.call0()?.unbind();
        let inner = copy(py, &outer)?;
        let variables = size_of::<ffi::PyObject>() + size_of::<Pointer>();
        // SAFETY: a live object's type, which is ready.
        let size = unsafe { (*ffi::Py_TYPE(outer.as_ptr())).tp_basicsize };
        if size.unsigned_abs() < variables + size_of::<Pointer>() {
            return Ok(None);
        }
        let place = super::run(py, &outer, || {
            Ok((0..SEARCHED)
                .step_by(size_of::<Pointer>())
                .find(|&place| current_at(py, place) == outer.as_ptr()))
        })?;
        let Some(current) = place else {
            return Ok(None);
        };
        let layout = Self { current, variables };
        let variable = module.getattr("ContextVar")?.call1(("oxlip",))?;
        let copies_share = layout.variables(&outer) == layout.variables(&inner)
            && !layout.variables(&outer).is_null();
        let follows = super::run(py, &outer, || {
            let within = super::run(py, &inner, || {
                variable.call_method1("set", (1,))?;
                Ok(layout.current(py) == inner.as_ptr())
            })?;
            Ok(within && layout.current(py) == outer.as_ptr())
        })?;
        let changed = layout.variables(&outer) != layout.variables(&inner);
        let again = copy(py, &inner)?;
        let share_again = layout.variables(&again) == layout.variables(&inner);
        Ok((copies_share && follows && changed && share_again).then_some(layout))
    }

    /// Whether `snapshot` is equal to this thread's current context.
    #[inline]
    fn equals_current(&self, snapshot: &Py<PyAny>, py: Python<'_>) -> bool {
        let current = self.current(py);
        // SAFETY: what a thread runs in is a live Context, and the pointer is inside it, by `probe`.
        !current.is_null() && unsafe { read(current, self.variables) } == self.variables(snapshot)
    }

    /// The context that this thread runs in, borrowed; NULL until it has one.
    #[inline]
    fn current(&self, py: Python<'_>) -> Pointer {
        current_at(py, self.current)
    }

    #[inline]
    fn variables(&self, context: &Py<PyAny>) -> Pointer {
        // SAFETY: inside the object, by `probe`.
        unsafe { read(context.as_ptr(), self.variables) }
    }
}

/// The pointer at `place`, below [`SEARCHED`], of this thread's state.
#[inline]
fn current_at(_attached: Python<'_>, place: usize) -> Pointer {
    // SAFETY: a thread that is attached has a state, and `place` is a multiple of a pointer's size
    // inside it. Other threads write to some of what `probe` looks through, as to the list of all
    // threads: so the load is atomic.
    unsafe {
        let pointer = ffi::PyThreadState_Get().byte_add(place).cast();
        AtomicPtr::from_ptr(pointer).load(Ordering::Relaxed)
    }
}

/// # Safety
/// `object` is live and has a pointer at `offset`.
#[inline]
unsafe fn read(object: Pointer, offset: usize) -> Pointer {
    // SAFETY: see above.
    unsafe { object.byte_add(offset).cast::<Pointer>().read() }
}
