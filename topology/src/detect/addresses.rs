//! Addresses of network interfaces, from the system's `getifaddrs`.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// The list that the system made, given back when dropped.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the pointer came from getifaddrs, which succeeded, and is freed here alone.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// Every address with the name of its interface.
pub(super) fn of_interfaces() -> io::Result<Vec<(String, IpAddr)>> {
    let mut head = ptr::null_mut();
    // SAFETY: `head` is a valid place for the pointer to be written to.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = List(head);
    let mut addresses = Vec::new();
    let mut next = list.0;
    // SAFETY: `next` is null or an entry of the list, which lives until `list` is dropped.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: the entry's address is null or one of the family that it names, and its name is a C string of the list.
        let (address, name) = unsafe { (address(entry.ifa_addr), CStr::from_ptr(entry.ifa_name)) };
        if let Some(address) = address {
            addresses.push((name.to_string_lossy().into_owned(), address));
        }
        next = entry.ifa_next;
    }
    Ok(addresses)
}

/// The address in a structure of the system; none for families other than IP.
///
/// # Safety
/// `address` must be null, or point to a structure of the length that its family has.
unsafe fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null is excluded, and every structure begins with the family.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: the family says that it is this structure; it need not be aligned.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_its_address() {
        let addresses = of_interfaces().unwrap();
        assert!(addresses.contains(&("lo".into(), Ipv4Addr::LOCALHOST.into())), "{addresses:?}");
    }
}
