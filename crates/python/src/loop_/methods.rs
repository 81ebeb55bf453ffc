//! The loop's methods, one line each: this file says where each of them is done.
//!
//! What asyncio defines as a coroutine, and the logic of sockets that are not connected yet, is in
//! the Python part of the package.

use std::sync::atomic::Ordering;

use std::os::fd::RawFd;

use oxlip_driver::{Driver as _, Role};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use super::{EventLoop, files, fork, inside, lifecycle, replaced, schedule, sock, tasks, watch};
use crate::handle::Args;
use crate::transport::{self, DatagramTransport, Server, StreamTransport};

type Any<'py> = Bound<'py, PyAny>;

#[pymethods]
impl EventLoop {
    #[new]
    #[pyo3(signature = (driver = None))]
    fn new(driver: Option<&str>) -> PyResult<Self> {
        Self::create(driver)
    }

    // Running: lifecycle.rs, tick.rs

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        lifecycle::run(slf)
    }

    fn _claim(slf: &Bound<'_, Self>) -> PyResult<()> {
        lifecycle::claim(slf)
    }

    fn _release(slf: &Bound<'_, Self>) {
        lifecycle::release(slf);
    }

    /// Ends `run_forever()` after the current tick.
    fn stop(&self) {
        lifecycle::stop(self);
    }

    /// Lets go of everything the loop holds. It cannot be used again.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        lifecycle::close(slf)
    }

    // In a process that forks: fork.rs

    fn _before_fork(slf: &Bound<'_, Self>) {
        fork::before(slf);
    }

    fn _after_fork(slf: &Bound<'_, Self>) -> bool {
        fork::after(slf)
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    fn is_closed(&self) -> bool {
        self.life.load(Ordering::Relaxed) == fork::CLOSED
    }

    fn _check_closed(&self) -> PyResult<()> {
        self.check_open()
    }

    #[getter]
    fn driver(&self) -> &'static str {
        let now = self
            .state
            .with(|state| state.driver.as_ref().map(|driver| driver.name()));
        if let Ok(Some(name)) = now
            && name != self.driver_name
        {
            let _ = self.driver_instead.set(name);
        }
        self.driver_instead.get().unwrap_or(&self.driver_name)
    }

    #[getter]
    fn _driver_reason(&self) -> &str {
        &self.driver_reason
    }

    // Debug mode

    fn get_debug(&self) -> bool {
        self.is_debug()
    }

    fn set_debug(&self, enabled: &Any<'_>) -> PyResult<()> {
        self.debug.store(enabled.is_truthy()?, Ordering::Relaxed);
        Ok(())
    }

    #[getter]
    fn slow_callback_duration(&self) -> f64 {
        f64::from_bits(self.slow_callback_duration.load(Ordering::Relaxed))
    }

    #[setter]
    fn set_slow_callback_duration(&self, seconds: f64) {
        self.slow_callback_duration
            .store(seconds.to_bits(), Ordering::Relaxed);
    }

    /// What debug mode runs; nothing to other threads, in which the exception handler may ask, too.
    #[getter]
    fn _current_handle(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state
            .with(|state| state.current_handle.as_ref().map(|it| it.clone_ref(py)))
            .ok()
            .flatten()
    }

    // Scheduling: schedule.rs

    fn time(&self) -> f64 {
        schedule::now(self).as_secs_f64()
    }

    // call_soon, call_soon_threadsafe, call_later, call_at: fastcall.rs

    #[pyo3(signature = (callback, *args))]
    fn _call_by_inbox(
        slf: &Bound<'_, Self>,
        callback: Any<'_>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        schedule::call_by_inbox(slf, callback, Args::of_tuple(args))
    }

    // Methods that a program has replaced: replaced.rs

    fn _reconsider(&self) {
        replaced::reconsider(self);
    }

    fn _look_at_replaced(slf: &Bound<'_, Self>) {
        replaced::look(slf);
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Any<'_>,
    ) -> PyResult<()> {
        replaced::set_attribute(slf, name, Some(value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        replaced::set_attribute(slf, name, None)
    }

    // Futures and tasks: tasks.rs

    fn set_task_factory(&self, py: Python<'_>, factory: Option<Any<'_>>) -> PyResult<()> {
        tasks::set_factory(py, self, factory)
    }

    fn get_task_factory<'py>(&self, py: Python<'py>) -> Option<Any<'py>> {
        tasks::factory(self, py)
    }

    // What libraries know of asyncio's own loop: inside.rs

    /// One tick.
    fn _tick(slf: &Bound<'_, Self>, sleep: bool) -> PyResult<()> {
        inside::tick(slf, sleep)
    }

    #[getter]
    fn _stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    #[setter(_stopping)]
    fn set_stopping(&self, stopping: bool) {
        self.stopping.store(stopping, Ordering::Relaxed);
    }

    fn _set_running(slf: &Bound<'_, Self>, running: bool) {
        lifecycle::set_running(slf, running);
    }

    fn _write_to_self(&self) {
        self.wake();
    }

    /// Whether another thread runs it, or is in the middle of a call to it.
    fn _is_elsewhere(&self) -> bool {
        self.own_here().is_none()
    }

    #[pyo3(signature = (timeout = None))]
    fn _poll(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<()> {
        inside::poll(slf, timeout)
    }

    fn _ready_len(slf: &Bound<'_, Self>) -> PyResult<usize> {
        inside::ready_len(slf)
    }

    fn _ready_items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        inside::ready_items(slf)
    }

    fn _ready_replace(slf: &Bound<'_, Self>, handles: Vec<Any<'_>>) -> PyResult<()> {
        inside::ready_replace(slf, handles)
    }

    fn _ready_append(slf: &Bound<'_, Self>, handle: Any<'_>) -> PyResult<()> {
        inside::ready_append(slf, handle)
    }

    fn _ready_popleft<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        inside::ready_popleft(slf)
    }

    fn _timer_handles<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        inside::timers(slf)
    }

    // Descriptors that the program owns: watch.rs

    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Any<'py>,
        callback: Any<'py>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        watch::add(slf, fd, watch::Side::Read, callback, args)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Any<'py>,
        callback: Any<'py>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        watch::add(slf, fd, watch::Side::Write, callback, args)
    }

    fn remove_reader(slf: &Bound<'_, Self>, fd: &Any<'_>) -> PyResult<bool> {
        watch::remove(slf, fd, watch::Side::Read)
    }

    fn remove_writer(slf: &Bound<'_, Self>, fd: &Any<'_>) -> PyResult<bool> {
        watch::remove(slf, fd, watch::Side::Write)
    }

    fn _wait_readable<'py>(slf: &Bound<'py, Self>, fd: &Any<'py>) -> PyResult<(Any<'py>, u64)> {
        watch::wait(slf, fd, watch::Side::Read)
    }

    fn _wait_writable<'py>(slf: &Bound<'py, Self>, fd: &Any<'py>) -> PyResult<(Any<'py>, u64)> {
        watch::wait(slf, fd, watch::Side::Write)
    }

    fn _only_wakes(&self, fd: RawFd) -> PyResult<()> {
        watch::only_wakes(self, fd)
    }

    fn _unwait(slf: &Bound<'_, Self>, future: &Any<'_>, watch: u64) -> PyResult<()> {
        watch::unwait(slf, future, watch)
    }

    // One attempt on the program's own socket: sock.rs

    fn _sock_recv<'py>(slf: &Bound<'py, Self>, sock: &Any<'py>, n: isize) -> PyResult<Any<'py>> {
        sock::recv(slf, sock, n)
    }

    fn _sock_recv_into<'py>(
        slf: &Bound<'py, Self>,
        sock: &Any<'py>,
        buf: &Any<'py>,
    ) -> PyResult<Any<'py>> {
        sock::recv_into(slf, sock, buf)
    }

    fn _sock_send<'py>(
        slf: &Bound<'py, Self>,
        sock: &Any<'py>,
        data: &Any<'py>,
    ) -> PyResult<Option<sock::Left<'py>>> {
        sock::send(slf, sock, data)
    }

    // Regular files, where the driver does them: files.rs

    fn _file_read<'py>(
        slf: &Bound<'py, Self>,
        fd: i32,
        offset: Option<u64>,
        size: usize,
    ) -> PyResult<Option<Any<'py>>> {
        files::read(slf, fd, offset, size)
    }

    fn _file_write<'py>(
        slf: &Bound<'py, Self>,
        fd: i32,
        offset: Option<u64>,
        data: &[u8],
    ) -> PyResult<Option<Any<'py>>> {
        files::write(slf, fd, offset, data)
    }

    // Connections and listening sockets: transport/

    #[pyo3(signature = (sock, protocol, *, owned = false, waiter = None, context = None))]
    fn _connection<'py>(
        slf: &Bound<'py, Self>,
        sock: &Any<'py>,
        protocol: Any<'py>,
        owned: bool,
        waiter: Option<Any<'py>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, StreamTransport>> {
        transport::wrap(slf, sock, protocol, owned, waiter, context)
    }

    fn _read_pipe<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Any<'py>,
        protocol: Any<'py>,
        waiter: Option<Any<'py>>,
    ) -> PyResult<Any<'py>> {
        transport::wrap_pipe(slf, pipe, protocol, waiter, transport::Direction::Read)
    }

    fn _write_pipe<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Any<'py>,
        protocol: Any<'py>,
        waiter: Option<Any<'py>>,
    ) -> PyResult<Any<'py>> {
        transport::wrap_pipe(slf, pipe, protocol, waiter, transport::Direction::Write)
    }

    #[pyo3(signature = (sock, protocol, *, address = None, owned = false, waiter = None))]
    fn _datagram<'py>(
        slf: &Bound<'py, Self>,
        sock: &Any<'py>,
        protocol: Any<'py>,
        address: Option<Any<'py>>,
        owned: bool,
        waiter: Option<Any<'py>>,
    ) -> PyResult<Bound<'py, DatagramTransport>> {
        transport::open(slf, sock, protocol, address, owned, waiter)
    }

    fn _listen(
        slf: &Bound<'_, Self>,
        sock: &Any<'_>,
        protocol_factory: Any<'_>,
        server: Bound<'_, Server>,
        backlog: isize,
        owned: bool,
    ) -> PyResult<u64> {
        // listen(2) takes a negative backlog for none.
        let backlog = usize::try_from(backlog).unwrap_or(0);
        let role = if owned {
            Role::Listener
        } else {
            Role::SharedListener
        };
        transport::listen(slf, sock, protocol_factory, server, backlog, role)
    }

    fn _unlisten(slf: &Bound<'_, Self>, key: u64) -> PyResult<()> {
        transport::unlisten(slf, key)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        lifecycle::clear(slf.py(), slf.get());
    }
}
