//! Where the pool's memory lies, asked of the kernel: on which NUMA nodes, and how much of it on huge pages.
#![allow(unsafe_code)]

use super::{Pool, SLAB_BYTES};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

/// Nodes that a mask of the kernel names here; it takes more, no machine has them.
const NODE_LIMIT: u32 = 1024;

/// Has memory of the pool that nobody has touched yet come from `node` while that has any, whoever touches it. The kernel's own NUMA balancing
/// leaves such memory alone, which otherwise takes pages away for moments to see who misses them. Errs where the kernel refuses, as
/// without NUMA; the memory then comes from the node of whoever touches it first.
pub fn prefer_node(pool: &Pool, node: u32) -> io::Result<()> {
    const MPOL_PREFERRED: i32 = 1;
    let mut mask = [0_u64; (NODE_LIMIT / u64::BITS) as usize];
    let Some(word) = mask.get_mut((node / u64::BITS) as usize) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    *word = 1 << (node % u64::BITS);
    let (start, bytes) = pool.memory();
    // The kernel takes this as one more than the bits it reads.
    let (bits, flags) = (u64::from(NODE_LIMIT) + 1, 0_u32);
    // SAFETY: the range is the pool's mapping, whose content the call does not change; the kernel reads NODE_LIMIT bits, which `mask` has.
    let answer = unsafe {
        libc::syscall(libc::SYS_mbind, start.as_ptr(), bytes, MPOL_PREFERRED, mask.as_ptr(), bits, flags)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The slabs on each node; a slab's first page speaks for it. Slabs that nobody has touched or registered yet are on none.
/// Errs where the kernel knows no `move_pages`, as without NUMA.
pub fn slabs_by_node(pool: &Pool) -> io::Result<BTreeMap<u32, usize>> {
    let (start, bytes) = pool.memory();
    let pages: Vec<*const c_void> = (0..bytes)
        .step_by(SLAB_BYTES)
        .map(|offset| start.as_ptr().wrapping_add(offset).cast_const().cast())
        .collect();
    let mut nodes = vec![0_i32; pages.len()];
    let (this_process, nowhere, flags) = (0_i32, std::ptr::null::<i32>(), 0_i32);
    // SAFETY: without nodes to move to the call only reads `pages.len()` addresses and writes as many numbers, which both vectors hold;
    // the addresses are not read through.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            this_process,
            pages.len(),
            pages.as_ptr(),
            nowhere,
            nodes.as_mut_ptr(),
            flags,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut slabs = BTreeMap::new();
    // Negative: an error number, mostly "not there yet".
    for node in nodes.into_iter().filter_map(|node| u32::try_from(node).ok()) {
        *slabs.entry(node).or_default() += 1;
    }
    Ok(slabs)
}

/// How many bytes of the pool lie on huge pages. Errs where `/proc` does not tell.
pub fn huge_page_bytes(pool: &Pool) -> io::Result<u64> {
    let (start, bytes) = pool.memory();
    let pool = start.as_ptr().addr()..start.as_ptr().addr() + bytes;
    let (mut is_inside, mut huge_kib) = (false, 0);
    for line in BufReader::new(File::open("/proc/self/smaps")?).lines() {
        let line = line?;
        if let Some(range) = mapping(&line) {
            is_inside = range.start < pool.end && pool.start < range.end;
        } else if is_inside && let Some(kib) = line.strip_prefix("AnonHugePages:") {
            huge_kib += kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        }
    }
    Ok(huge_kib << 10)
}

/// The addresses of a mapping, if that is its first line: `7f0a12c00000-7f0a12e00000 rw-p …`.
fn mapping(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_from_the_node_that_is_preferred() {
        let pool = Pool::new(2, 0).unwrap();
        let node = last_node();
        match prefer_node(&pool, node) {
            Err(error) if is_withheld(&error) => return println!("skipped: {error}"),
            placed => placed.unwrap(),
        }
        let mut slabs = [pool.try_acquire().unwrap(), pool.try_acquire().unwrap()];
        slabs.iter_mut().for_each(|slab| slab[0] = 1);
        assert_eq!(slabs_by_node(&pool).unwrap(), BTreeMap::from([(node, 2)]));
        assert!(prefer_node(&pool, NODE_LIMIT).is_err());
        assert!(prefer_node(&pool, NODE_LIMIT - 1).is_err(), "no machine at hand has that");
    }

    /// The last one that gives memory to this process.
    fn last_node() -> u32 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let nodes = status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:")).unwrap_or("0");
        nodes.trim().rsplit([',', '-']).next().unwrap().parse().unwrap()
    }

    /// Kernels without NUMA know no such call, containers often forbid it.
    fn is_withheld(error: &io::Error) -> bool {
        [libc::ENOSYS, libc::EPERM].map(Some).contains(&error.raw_os_error())
    }

    #[test]
    fn touched_slabs_are_on_a_node_and_others_on_none() {
        let pool = Pool::new(3, 0).unwrap();
        let nodes = match slabs_by_node(&pool) {
            Err(error) if is_withheld(&error) => return println!("skipped: {error}"),
            nodes => nodes.unwrap(),
        };
        assert!(nodes.is_empty(), "{nodes:?}");
        let mut slabs = [pool.try_acquire().unwrap(), pool.try_acquire().unwrap()];
        slabs.iter_mut().for_each(|slab| slab[0] = 1);
        let nodes = slabs_by_node(&pool).unwrap();
        assert_eq!(nodes.values().sum::<usize>(), 2, "{nodes:?}");
        let online = std::fs::read_to_string("/sys/devices/system/node/online").unwrap_or("0".into());
        assert!(online.trim() != "0" || nodes.keys().eq(&[0]), "{nodes:?}");
    }

    #[test]
    fn huge_pages_are_counted_where_they_are_given() {
        let pool = Pool::new(4, 0).unwrap();
        assert_eq!(huge_page_bytes(&pool).unwrap(), 0, "nobody has touched it");
        let mut slab = pool.try_acquire().unwrap();
        slab[0] = 1;
        let bytes = huge_page_bytes(&pool).unwrap();
        assert!([0, SLAB_BYTES as u64].contains(&bytes), "{bytes}");
        let modes =
            std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        assert!(bytes > 0 || !modes.contains("[always]"), "{modes}");
    }

    #[test]
    fn lines_of_mappings_are_told_from_others() {
        assert_eq!(mapping("7f00-7f0f rw-p 00000000 00:00 0 "), Some(0x7f00..0x7f0f));
        for other in ["AnonHugePages:      2048 kB", "VmFlags: rd wr", "", "-"] {
            assert_eq!(mapping(other), None, "{other}");
        }
    }
}
