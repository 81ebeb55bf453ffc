//! Socket addresses, in the form in which Python's `socket` module returns and takes them.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use oxlip_core::address::Address;
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};
use rustix::net::AddressFamily;

/// The families whose addresses are handled here. Those of other families are handled by Python's
/// own sockets only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
    Unix,
    Other,
}

impl Family {
    pub(super) fn of(sock: &Bound<'_, PyAny>) -> PyResult<Self> {
        let number: i32 = sock.getattr("family")?.extract()?;
        let is = |family: AddressFamily| i32::from(family.as_raw()) == number;
        Ok(if is(AddressFamily::INET) {
            Self::Ipv4
        } else if is(AddressFamily::INET6) {
            Self::Ipv6
        } else if is(AddressFamily::UNIX) {
            Self::Unix
        } else {
            Self::Other
        })
    }
}

/// The address as `recvfrom()` returns it; `None` for a sender without one.
pub(super) fn to_python<'py>(
    py: Python<'py>,
    address: Option<&Address>,
) -> PyResult<Bound<'py, PyAny>> {
    match address {
        None => Ok(py.None().into_bound(py)),
        Some(Address::Ip(addr)) => ip_to_python(py, *addr),
        Some(Address::Unix(name)) => unix_to_python(py, name),
    }
}

/// A path is a `str`; an abstract name, which is not text, is `bytes` with its null byte; no name
/// is `""`.
pub(super) fn unix_to_python<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if name.first() == Some(&0) {
        return Ok(PyBytes::new(py, name).into_any());
    }
    OsStr::from_bytes(name).into_bound_py_any(py)
}

/// The tuple for an Internet address.
pub(super) fn ip_to_python(py: Python<'_>, addr: SocketAddr) -> PyResult<Bound<'_, PyAny>> {
    let port = addr.port();
    match addr {
        SocketAddr::V4(v4) => (v4.ip().to_string(), port).into_bound_py_any(py),
        SocketAddr::V6(v6) => {
            let flowinfo = u32::from_be(v6.flowinfo());
            (ipv6_text(*v6.ip()), port, flowinfo, v6.scope_id()).into_bound_py_any(py)
        }
    }
}

/// As inet_ntop(3), which shows `::a.b.c.d` (deprecated by RFC 4291) with dots, unlike Rust.
fn ipv6_text(ip: Ipv6Addr) -> String {
    let segments = ip.segments();
    if segments[..6].iter().all(|&segment| segment == 0) && segments[6] != 0 {
        let [.., a, b, c, d] = ip.octets();
        return format!("::{}", Ipv4Addr::new(a, b, c, d));
    }
    ip.to_string()
}

/// The address that a program gave, if it can be understood without a look-up, a guess or an error.
pub(super) fn from_python(family: Family, address: &Bound<'_, PyAny>) -> Option<Address> {
    match family {
        Family::Ipv4 => {
            let (host, port, rest) = host_and_port(address)?;
            let ip: Ipv4Addr = host.to_str().ok()?.parse().ok()?;
            rest.is_empty()
                .then(|| Address::Ip(SocketAddrV4::new(ip, port).into()))
        }
        Family::Ipv6 => {
            let (host, port, rest) = host_and_port(address)?;
            let ip: Ipv6Addr = host.to_str().ok()?.parse().ok()?;
            let mut rest = rest.iter();
            let mut number = || rest.next().map_or(Some(0), |item| integer::<u32>(&item));
            let (flowinfo, scope_id) = (number()?, number()?);
            // RFC 3493 and Python allow 20 bits.
            (flowinfo <= 0xf_ffff && rest.next().is_none()).then(|| {
                Address::Ip(SocketAddrV6::new(ip, port, flowinfo.to_be(), scope_id).into())
            })
        }
        Family::Unix => {
            let name = if let Ok(path) = address.cast_exact::<PyString>() {
                path.extract::<OsString>().ok()?.into_vec()
            } else {
                address.cast_exact::<PyBytes>().ok()?.as_bytes().to_vec()
            };
            Some(Address::Unix(name.into()))
        }
        Family::Other => None,
    }
}

/// The text and the number that an Internet address begins with, and what follows them.
fn host_and_port<'py>(
    address: &Bound<'py, PyAny>,
) -> Option<(Bound<'py, PyString>, u16, Bound<'py, PyTuple>)> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    let host = address.get_item(0).ok()?;
    let port = integer(&address.get_item(1).ok()?)?;
    let host = host.cast_into_exact::<PyString>().ok()?;
    let rest = match address.len() {
        2 => PyTuple::empty(address.py()),
        len => address.get_slice(2, len),
    };
    Some((host, port, rest))
}

/// An integer of the exact type, so that asking for it runs no Python code.
fn integer<'py, N>(object: &Bound<'py, PyAny>) -> Option<N>
where
    N: for<'a> FromPyObject<'a, 'py>,
{
    object.cast_exact::<PyInt>().ok()?.extract().ok()
}
