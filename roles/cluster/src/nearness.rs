//! How near a member is, and whom that makes first.
//!
//! ```text
//!   the same host ─▶ the same group, as of a rack ─▶ the rest
//! ```
//! NUMA nodes are not told apart: what the node of a disk or a network card adds to a piece from the own host is less than what its read takes.
//! Nor does an address need to be chosen: the kernel takes the way within the host to any address of its own.
//!
//! Owns: the order. Never: who has a piece; an order that guesses wrong costs time and nothing else.

use control::messages::MemberEntry;
use std::net::{IpAddr, SocketAddr};

/// How far it is to a member; the nearest is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// On this machine.
    Host,
    /// Of this group.
    Group,
    /// Anywhere.
    Far,
}

/// The way from one member to another.
pub fn distance(own: &MemberEntry, other: &MemberEntry) -> Distance {
    if own.host == other.host || shares_address(own, other) {
        Distance::Host
    } else if own.group == other.group {
        Distance::Group
    } else {
        Distance::Far
    }
}

/// Members of one host that call it by different names, as in containers, are reached at the same address.
fn shares_address(own: &MemberEntry, other: &MemberEntry) -> bool {
    let ips = |entry: &MemberEntry| -> Vec<IpAddr> {
        let of = |address: &String| address.parse().ok().map(|address: SocketAddr| address.ip());
        // Every host has these.
        entry.addresses.iter().filter_map(of).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect()
    };
    let theirs = ips(other);
    ips(own).iter().any(|ip| theirs.contains(ip))
}

/// The nearest first; of equally near ones first the `owner` of an item, then the others, begun at another for each `number`: they share the work.
pub fn nearest_first<'a>(
    own: &MemberEntry,
    owner: Option<&'a MemberEntry>,
    others: &[&'a MemberEntry],
    number: u64,
) -> Vec<&'a MemberEntry> {
    let mut order: Vec<_> = others.iter().map(|entry| (distance(own, entry), *entry)).collect();
    order.sort_by_key(|(distance, _)| *distance);
    for equals in order.chunk_by_mut(|a, b| a.0 == b.0) {
        let first = number % equals.len() as u64;
        equals.rotate_left(usize::try_from(first).expect("less than a length"));
    }
    if let Some(owner) = owner {
        let so_far = distance(own, owner);
        let at = order.partition_point(|(distance, _)| *distance < so_far);
        order.insert(at, (so_far, owner));
    }
    order.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::ids::InstanceId;
    use control::messages::Role;
    use std::collections::BTreeMap;

    fn member(number: u8, host: &str, group: &str, addresses: &[&str]) -> MemberEntry {
        MemberEntry {
            role: Role::FullPieceCache,
            id: InstanceId([number; 16]),
            addresses: addresses.iter().map(|&address| address.into()).collect(),
            certificate_sha256: [0; 32],
            group: group.into(),
            host: host.into(),
            capacity: 1,
            version: String::new(),
            is_full: false,
        }
    }

    #[test]
    fn a_host_is_known_by_its_name_or_its_address() {
        let own = member(0, "gpu-01", "rack-1", &["10.0.0.1:1", "127.0.0.1:1"]);
        let to = |host, group, addresses| distance(&own, &member(1, host, group, addresses));
        assert_eq!(to("gpu-01", "rack-2", &["10.0.9.9:2"]), Distance::Host);
        assert_eq!(to("container", "rack-2", &["10.0.9.9:2", "10.0.0.1:2"]), Distance::Host);
        assert_eq!(to("gpu-02", "rack-1", &["127.0.0.1:1"]), Distance::Group, "everybody has that");
        assert_eq!(to("gpu-02", "rack-1", &["no address", "10.0.0.11:1"]), Distance::Group);
        assert_eq!(to("gpu-02", "rack-2", &["10.0.0.2:1"]), Distance::Far);
    }

    #[test]
    fn near_ones_come_first_and_equals_share_the_work() {
        let own = member(0, "a", "rack-1", &[]);
        let all = [
            ("x", "rack-2"),
            ("a", "rack-2"),
            ("b", "rack-1"),
            ("c", "rack-1"),
            ("y", "rack-3"),
            ("a", "rack-1"),
        ];
        let all: Vec<_> =
            (1..).zip(all).map(|(number, (host, group))| member(number, host, group, &[])).collect();
        let others: Vec<_> = all.iter().collect();
        let order = |owner: Option<usize>, number| {
            let owner = owner.map(|nth| &all[nth]);
            let order = nearest_first(&own, owner, &others, number);
            order.iter().map(|entry| entry.id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(order(None, 0), [2, 6, 3, 4, 1, 5]);
        assert_eq!(order(None, 1), [6, 2, 4, 3, 5, 1]);
        let mut firsts = BTreeMap::<_, u32>::new();
        (0..100).for_each(|number| *firsts.entry(order(None, number)[0]).or_default() += 1);
        assert_eq!(firsts, [(2, 50), (6, 50)].into());
        // The owner is asked before its equals, and not before those that are nearer.
        let owner = member(9, "z", "rack-1", &[]);
        let with = nearest_first(&own, Some(&owner), &others, 0);
        assert_eq!(with.iter().map(|entry| entry.id.0[0]).collect::<Vec<_>>(), [2, 6, 9, 3, 4, 1, 5]);
        assert!(nearest_first(&own, None, &[], 7).is_empty());
    }
}
