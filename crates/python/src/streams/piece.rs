//! Data that arrive while the buffer is empty stay the object that they came as. A call that wants
//! all of it, which is what a request or a line mostly is, returns that object: nothing is copied
//! into the buffer and out again. If somebody looks at the buffer, the data are there, and from
//! then on all go there.
//!
//! On the thread of the stream's loop, as all of a reader.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::slots::{Slot, put};
use super::{StreamReader, bytes};
use crate::fields::hold;

impl StreamReader {
    /// Keeps the first bytes as they are: how many they are and the limit, if that is possible.
    #[inline]
    pub(super) fn keep(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> Option<(usize, usize)> {
        let py = slf.py();
        if data.as_bytes().is_empty() || !Self::is_plain(slf) {
            return None;
        }
        let mut this = hold(slf);
        if !this.private || this.eof || this.piece.is_some() {
            return None;
        }
        let buffer = this.buffer.as_ref()?.bind(py);
        if !buffer.cast_exact::<PyByteArray>().ok()?.is_empty() {
            return None;
        }
        let limit = this.limit_size?;
        this.piece = Some(data.clone().unbind());
        Some((data.as_bytes().len(), limit))
    }

    /// Puts what has been kept as it came where asyncio's would have it.
    ///
    /// # Errors
    /// Out of memory: then it stays where it is.
    #[inline]
    pub(super) fn fill(slf: &Bound<'_, Self>) -> PyResult<()> {
        if hold(slf).piece.is_none() {
            return Ok(());
        }
        let py = slf.py();
        let (buffer, piece) = {
            let this = hold(slf);
            let clone = |slot: &Slot| slot.as_ref().map(|it| it.clone_ref(py).into_bound(py));
            let piece = this.piece.as_ref().map(|it| it.clone_ref(py));
            (clone(&this.buffer), piece)
        };
        if let (Some(buffer), Some(piece)) = (buffer, piece) {
            bytes::append(buffer.cast::<PyByteArray>()?, piece.as_bytes(py))?;
        }
        let over = hold(slf).piece.take();
        drop(over);
        Ok(())
    }

    /// All that is there, as it came, if it suits the call. `suits` gets the limit, too.
    #[inline]
    pub(super) fn whole<'py>(
        slf: &Bound<'py, Self>,
        waited: Option<&Bound<'py, PyAny>>,
        suits: impl FnOnce(&[u8], usize) -> bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        if !Self::is_plain(slf) {
            return Ok(None);
        }
        let (piece, paused) = {
            let mut this = hold(slf);
            let fine = waited.is_some() || this.exception.is_none();
            match (&this.piece, this.limit_size) {
                (Some(piece), Some(limit)) if fine && suits(piece.as_bytes(py), limit) => {}
                _ => return Ok(None),
            }
            (this.piece.take(), this.paused)
        };
        if waited.is_some() {
            put(slf, |this| &mut this.waiter, None);
        }
        if paused {
            Self::resume(slf)?;
        }
        Ok(piece.map(|piece| piece.into_bound(py).into_any()))
    }
}
